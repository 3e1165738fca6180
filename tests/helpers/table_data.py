"""Data sets of tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from ensemble.core.errors import EnsError
from ensemble.data.load import load_dataset
from ensemble.recipe.data_spec import DataSpec


def load_table(root: Path, **keys: object):
    return load_dataset(DataSpec(form="csv", path=str(root), **keys), root.parent / "runs")


def refused_table(root: Path, code: int = 3, **keys: object) -> str:
    with pytest.raises(EnsError) as caught:
        load_table(root, **keys)
    assert caught.value.exit_code == code and "\n" not in str(caught.value)
    return str(caught.value)


def write_lines(path: Path, *lines: str) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
