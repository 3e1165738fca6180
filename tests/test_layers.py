"""The order of the packages: nothing imports from a higher layer, and below the line nothing loads torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.repository import PACKAGE, ROOT

LAYERS = (
    *("core", "recipe", "metrics", "stats", "data", "runs", "tracking", "check", "combine", "distill", "submit"),
    *("report", "models", "inference", "training", "export", "serve", "api", "cli"),
)
"""The packages, the lowest first: a module imports from its own layer and from lower ones."""


ABOVE = ("models", "inference", "training", "export", "serve")


NETWORK_LIBRARIES = {"torch", "torchvision", "fastai", "timm"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__main__.py"}


BELOW = [name for name in MODULES if not name.startswith(tuple(f"ensemble.{part}" for part in ABOVE))]


def test_lower_layers_and_serving_an_export_load_no_network_library() -> None:
    serving = [
        name for name in MODULES if name.startswith("ensemble.serve") and name != "ensemble.serve.run_predictor"
    ]
    assert len(serving) > 8
    code = (
        f"import sys\nfor names in {[BELOW, serving]!r}:\n    for name in names: __import__(name)\n"
        f"    print(sorted({NETWORK_LIBRARIES!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]


def imports_of(name: str) -> set[str]:
    """The modules of the package that a module imports, inside functions and for type checkers too."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            submodules = {f"{module}.{alias.name}" for alias in node.names}
            imported |= (submodules & set(MODULES)) or {module}
    return {module for module in imported if module.split(".")[0] in ("ensemble", *NETWORK_LIBRARIES)}


def layer(name: str) -> int:
    return LAYERS.index(name.split(".")[1])


@pytest.mark.parametrize("name", [name for name in MODULES if "." in name])
def test_no_module_imports_from_a_higher_layer(name: str) -> None:
    for imported in imports_of(name) - {"ensemble"}:
        if imported.split(".")[0] in NETWORK_LIBRARIES:
            assert name not in BELOW, f"{name} is below the waterline and imports {imported}"
        else:
            assert layer(imported) <= layer(name), f"{name} imports {imported}, which is in a higher layer"


def test_no_circle_of_imports() -> None:
    remaining = {name: imports_of(name) & set(MODULES) - {name} for name in MODULES}
    while free := {name for name, imports in remaining.items() if not imports & set(remaining)}:
        remaining = {name: imports for name, imports in remaining.items() if name not in free}
    assert not remaining, "these modules import each other, or import those that do"


def test_nothing_unpickles() -> None:
    forbidden = (
        r"load_learner|learn\.export|weights_only *= *False|allow_pickle *= *True|import pickle|pickle\.load"
    )
    for path in MODULES.values():
        assert not re.search(forbidden, path.read_text(encoding="utf-8")), path
