"""Data sets of class folders."""

from __future__ import annotations

from pathlib import Path

from ensemble.data.dataset import Dataset
from ensemble.data.load import load_dataset
from ensemble.recipe.data_spec import DataSpec


def folder_spec(root: Path, **keys: object) -> DataSpec:
    return DataSpec(form="folders", path=str(root), **keys)


def load_folders(root: Path, **keys: object) -> Dataset:
    return load_dataset(folder_spec(root, **keys), root.parent / "runs")
