"""Folders and tables of images below `d` in the working folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ensemble.core.errors import EnsError
from ensemble.data.detect_form import guess_spec
from ensemble.data.load import load_dataset
from ensemble.recipe.data_spec import DataSpec


def draw(*names: str, root: str = "d") -> Path:
    for value, name in enumerate(names):
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(value).integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return Path(root)


def classes(*folders: str, n: int = 4, root: str = "d") -> Path:
    """Images of cats and dogs in each of the folders."""
    return draw(*[f"{f}/{label}/{i}.png" for f in folders for label in ("cat", "dog") for i in range(n)], root=root)


def write_table(name: str, *lines: str, encoding: str = "utf-8", root: str = "d") -> Path:
    path = Path(root, name)
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return path


def loaded(path: Path | DataSpec) -> tuple[list[str], dict[str, int], list[str]]:
    """Classes, the number of items of each split, and the notes."""
    notes: list[str] = []
    spec = path if isinstance(path, DataSpec) else guess_spec(path)
    data = load_dataset(spec, Path("runs"), note=notes.append)
    return data.classes.tolist(), {split: len(items) for split, items in data.splits.items()}, notes


def refused(path: Path | DataSpec, code: int = 3) -> str:
    with pytest.raises(EnsError) as caught:
        loaded(path)
    assert caught.value.exit_code == code and "\n" not in str(caught.value)
    return str(caught.value)


ROWS = [f"{i}.png,{'ab'[i % 2]}" for i in range(8)]
