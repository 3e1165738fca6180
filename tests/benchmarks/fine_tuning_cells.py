"""The cells of the fine-tuning benchmark: part of a data set, a network, a size and a seed each."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CIFAR_VALID = 150
"""Validation images a class; 500 where a cell trains on all that there is."""


ISIC = """
data:
  form: csv
  path: {path}
  train: train.csv
  valid: valid.csv
  images: images
  id_column: image_id
  label_columns: [melanoma, seborrheic_keratosis]
  unnamed_class: nevus
"""


@dataclass(frozen=True)
class Cell:
    """data: cifar-<images a class>, isic or digits.  scratch: random weights.  seed: of the images and the run."""

    data: str
    arch: str
    size: int
    seed: int = 0
    epochs: int = 3
    scratch: bool = False

    @property
    def name(self) -> str:
        """Its key in the results."""
        return f"{self.data} {self.arch} {self.size}px seed {self.seed}"


def cells() -> list[Cell]:
    """All of them, the cheap ones first."""
    lite0, lite2, mobile, squeeze = (
        "tf_efficientnet_lite0",
        "tf_efficientnet_lite2",
        "mobilenet_v2",
        "squeezenet1_1",
    )
    return [
        *(Cell("cifar-50", lite0, 96, seed) for seed in range(3)),
        *(Cell("cifar-50", mobile, 64, seed) for seed in range(3)),
        Cell("cifar-50", squeeze, 64),
        Cell("digits", lite0, 64),
        Cell("digits", squeeze, 64),
        Cell("cifar-300", mobile, 64),
        Cell("cifar-300", squeeze, 96),
        Cell("isic", mobile, 96),
        Cell("isic", squeeze, 160),
        Cell("cifar-300", lite0, 96),
        Cell("cifar-300", lite2, 64),
        Cell("isic", lite0, 128),
        Cell("isic", lite2, 96),
        Cell("cifar-300", "convnext_atto", 64, scratch=True),
        Cell("cifar-3600", mobile, 64),
    ]


def make(cell: Cell, sources: dict[str, Path], target: Path) -> None:
    """Write the cell's images as <target>/train/<class>/* and <target>/valid/<class>/*, or links to them.

    sources: `cifar10` and `isic2017`, the folders of these data sets.
    """
    if cell.data == "digits":
        _digits(target, cell.seed)
        return
    rows = _cifar(cell, sources["cifar10"]) if cell.data.startswith("cifar") else _isic(cell, sources["isic2017"])
    for split, label, path in rows:
        folder = target / split / label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).symlink_to(path)


def _cifar(cell: Cell, root: Path) -> Iterator[tuple[str, str, Path]]:
    each = int(cell.data.removeprefix("cifar-"))
    draw = np.random.default_rng(cell.seed)
    for folder in sorted(path for path in (root / "train").iterdir() if path.is_dir()):
        images = sorted(folder.iterdir())
        for place in draw.permutation(len(images))[:each]:
            yield "train", folder.name, images[place]
        held_out = sorted((root / "valid" / folder.name).iterdir())
        for path in held_out[: CIFAR_VALID if each < 3600 else 500]:
            yield "valid", folder.name, path


def _isic(cell: Cell, root: Path) -> Iterator[tuple[str, str, Path]]:
    """One fifth held out by class; near duplicates stay together."""
    from sklearn.model_selection import StratifiedGroupKFold

    labels = {}
    for table in ("train.csv", "valid.csv"):
        for row in csv.DictReader((root / table).open()):
            named = [name for name in ("melanoma", "seborrheic_keratosis") if float(row[name]) > 0.5]
            labels[row["image_id"]] = named[0] if named else "nevus"
    ids = sorted(labels)
    groups = _groups(root, ids)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    _, valid = list(folds.split(ids, [labels[name] for name in ids], groups))[cell.seed]
    held_out = set(valid.tolist())
    for place, name in enumerate(ids):
        yield "valid" if place in held_out else "train", labels[name], root / "images" / f"{name}.jpg"


def _groups(root: Path, ids: list[str]) -> list[str]:
    """The group of each image: those that `ens check` calls near duplicates share one."""
    import tempfile

    with tempfile.TemporaryDirectory() as work:
        table, recipe = Path(work) / "groups.csv", Path(work) / "recipe.yaml"
        recipe.write_text(ISIC.format(path=root))
        words = ["-m", "ensemble", "--runs", work, "check", "--recipe", str(recipe), "--groups", str(table)]
        subprocess.run([sys.executable, *words], capture_output=True)  # 0 or 1, by what it finds
        result = {row["id"].rsplit("/", 1)[-1]: row["group"] for row in csv.DictReader(table.open())}
    return [result.get(name, name) for name in ids]


def _digits(target: Path, seed: int) -> None:
    """scikit-learn's digits at 64 pixels: 100 a class to train on, the others to validate on."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    draw = np.random.default_rng(seed)
    for label in range(10):
        rows = draw.permutation(np.flatnonzero(digits.target == label))
        for place, row in enumerate(rows):
            folder = target / ("train" if place < 100 else "valid") / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            pixels = (digits.images[row] / 16 * 255).astype(np.uint8)
            Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{row}.png")
