"""The rows that a run gets wrong most surely, and their images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ensemble.data.dataset import Dataset
from ensemble.data.digests import UnreadableFiles
from ensemble.data.images import read_image
from ensemble.data.load import load_dataset
from ensemble.errors import DataError
from ensemble.predictions import Ints
from ensemble.recipe.file import read_recipe_file
from ensemble.recipe.schema import DataSpec
from ensemble.report.classes import Labelled
from ensemble.runs.run import Run


def surest_mistakes(rows: Labelled, count: int) -> Ints:
    """The positions of the wrong rows, the most probable wrong class first; at most `count`, ties by position."""
    predicted = rows.predicted
    wrong = np.flatnonzero(predicted != rows.targets)
    sure = rows.probs[wrong, predicted[wrong]]
    return wrong[np.argsort(-sure, kind="stable")][:count]


def pictures(run: Run, rows: Labelled, count: int) -> list[tuple[Image.Image, str]]:
    """(image, caption) of each. Raises DataError where the run's data is not where it was, or has changed."""
    places = surest_mistakes(rows, count)
    opened = images_of(run)
    predicted = rows.predicted
    return [
        (
            opened(str(rows.ids[at])),
            f"{_short(str(rows.ids[at]))}\n{rows.classes[rows.targets[at]]}, said"
            f" {rows.classes[predicted[at]]} {rows.probs[at, predicted[at]]:.2f}",
        )
        for at in places.tolist()
    ]


def images_of(run: Run, splits: Sequence[str] = ("train", "valid")) -> Callable[[str], Image.Image]:
    """id of a row of `splits` -> its upright image, or KeyError. Raises DataError where images are not known."""
    recipe = run.path / "recipe.yaml"
    source = recipe if recipe.is_file() else next(iter(_parents(run)), recipe)
    if not source.is_file():
        raise DataError("no recipe says where its images are")
    dataset = _readable(read_recipe_file(source).data, run.path.parent)
    if dataset.fingerprint != run.fingerprint:
        raise DataError("its images have changed since")
    places: Mapping[str, str] = {
        str(name): str(path)
        for split in splits
        if split in dataset.splits
        for name, path in zip(dataset.splits[split].ids, dataset.splits[split].paths, strict=True)
    }
    return lambda name: dataset.open_image(places[name])


def _readable(spec: DataSpec, folder: Path) -> Dataset:
    """The data set; without images that can no longer be read, whose rows the fingerprint then tells of."""
    try:
        return load_dataset(spec, folder)
    except UnreadableFiles:
        return load_dataset(spec.model_copy(update={"skip_unreadable": True}), folder)


def opener(run: Run) -> Callable[[str], Image.Image]:
    """The upright image of a file, or of one of the run's labelled rows by its id. Raises DataError for neither."""

    def opened(name: str) -> Image.Image:
        path = Path(name)
        if path.is_file():
            return read_image(path, max_pixels=DataSpec().max_pixels, background=(255, 255, 255))
        try:
            return images_of(run)(name)
        except KeyError:
            raise DataError(f"{name!r} is neither a file nor the id of a training or validation row") from None

    return opened


def _parents(run: Run) -> list[Path]:
    named = [run.path.parent / str(parent["id"]) / "recipe.yaml" for parent in run.facts.get("parents", [])]
    return [path for path in named if path.is_file()]


def _short(name: str, limit: int = 28) -> str:
    return name if len(name) <= limit else f"…{name[-limit + 1 :]}"
