"""Tests use public names: none imports, reads or patches a name of `ensemble` that begins with an underscore."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from helpers.repository import ROOT

PRIVATE = re.compile(r"_(?!_)\w+")
OF_OTHERS = {"_dynamo", "_exit", "_repr_html_"}
"""Of torch, os and IPython."""


def private(name: object) -> bool:
    parts = name.split(".") if isinstance(name, str) else []
    return any(PRIVATE.fullmatch(part) and part not in OF_OTHERS for part in parts)


def private_uses(source: str) -> list[str]:
    """The private names that a source imports from the package, reads as attributes or patches."""
    uses: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ensemble"):
            uses += [alias.name for alias in node.names if private(f"{node.module}.{alias.name}")]
        elif isinstance(node, ast.Attribute) and private(node.attr):
            uses += [] if isinstance(node.value, ast.Name) and node.value.id == "self" else [node.attr]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("setattr", "getattr"):
            uses += [arg.value for arg in node.args[:2] if isinstance(arg, ast.Constant) and private(arg.value)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # scripts for other processes
            uses += re.findall(r"from ensemble\S* import (?:\w+, )*(_\w+)", node.value)
    return uses


def test_no_private_name_is_used() -> None:
    paths = [*(ROOT / "tests").rglob("*.py")]
    uses = {path.name: private_uses(path.read_text(encoding="utf-8")) for path in paths if path != Path(__file__)}
    assert {name: result for name, result in uses.items() if result} == {}


@pytest.mark.parametrize(
    "source",
    [
        "from ensemble.core.files import _write",
        "from ensemble.core import files\nfiles._write",
        "network()._graphs.clear()",
        "monkeypatch.setattr('ensemble.core.files._write', None)",
        "from ensemble.core import files as f\nmonkeypatch.setattr(f, '_write', None)",
        "'from ensemble.serve.decoding import Decoder, _confine'",
    ],
)
def test_private_names_are_recognised(source: str) -> None:
    assert private_uses(source)
