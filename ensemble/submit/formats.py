"""Submission formats, and the rows of text that they produce.

>>> @submission_format("labels-only")
... def labels_only(predictions, spec): return Sheet(("label",), ...)
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Protocol

from ensemble.core.errors import RecipeError, first_few, one_line
from ensemble.core.names import READ_AS_MISSING
from ensemble.core.predictions import Floats, Predictions
from ensemble.core.registry import Registry, did_you_mean
from ensemble.metrics import labels

_EPOCH = (1980, 1, 1, 0, 0, 0)  # a zip that holds no time repeats its bytes


class Spec(Protocol):
    """The keys of a recipe's `submit`, whoever holds them."""

    @property
    def format(self) -> str: ...
    @property
    def id_column(self) -> str: ...
    @property
    def label_column(self) -> str: ...
    @property
    def positive(self) -> str | None: ...
    @property
    def header(self) -> bool: ...
    @property
    def separator(self) -> str: ...
    @property
    def inner_name(self) -> str: ...
    @property
    def label_as(self) -> str: ...
    @property
    def order(self) -> str: ...
    @property
    def zip(self) -> bool: ...


@dataclass(frozen=True)
class Sheet:
    """header: the column names.  rows: one for each item, as many cells as columns."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    with_header: bool = True
    separator: str = ","

    def csv(self) -> bytes:
        """UTF-8, a line feed after every row, quotes where a cell needs them."""
        out = io.StringIO()
        writer = csv.writer(out, delimiter=self.separator, lineterminator="\n")
        if self.with_header:
            writer.writerow(self.header)
        writer.writerows(self.rows)
        return out.getvalue().encode()


def missing_notes(sheet: Sheet) -> tuple[str, ...]:
    """A note where a cell would be read as missing: `Submission contains null values` is all that is then said."""
    bad = sorted({cell for row in sheet.rows for cell in row if cell in READ_AS_MISSING})
    if not bad:
        return ()
    return (
        f"{first_few(bad)} may be read as missing values: pandas, and most scorers, do so unless told otherwise",
    )


def numbers(values: Floats) -> list[str]:
    """Probabilities (n,) as text with nine significant digits, which name one float32 each."""
    return [f"{value:.9g}" for value in values.tolist()]


def zipped(content: bytes, name: str) -> bytes:
    """A flat zip that holds `content` as `name`, with the same bytes every time.

    Raises RecipeError when `name` is not a plain file name.
    """
    if not name.isprintable() or name in ("", ".", "..") or PurePath(name).name != name or "\\" in name:
        raise RecipeError(f"inner_name {one_line(name)!r} found, a file name without folders expected")
    out = io.BytesIO()
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system = 3  # the same on Windows
    info.external_attr = 0o644 << 16
    # stored, not deflated: zlib's bytes differ from one build to the next
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(info, content)
    return out.getvalue()


def columns(ids: Sequence[str], *cells: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Rows out of columns."""
    return tuple(zip(ids, *cells, strict=True))


Build = Callable[[Predictions, Spec], Sheet]


@dataclass(frozen=True)
class Format:
    """probabilities: whether a single answer column holds one.  zipped: whether it is always a zip."""

    name: str
    build: Build
    probabilities: Callable[[Spec], bool]
    zipped: bool


formats: Registry[Format] = Registry("submission format")


def _label_as_says(spec: Spec) -> bool:
    return spec.label_as == "probabilities"


def submission_format(
    name: str, *, probabilities: Callable[[Spec], bool] = _label_as_says, zipped: bool = False
) -> Callable[[Build], Build]:
    """A decorator that files a function (predictions, spec) -> Sheet under `name`."""

    def add(build: Build) -> Build:
        formats.register(name)(Format(name, build, probabilities, zipped))
        return build

    return add


def predicted_labels(predictions: Predictions, spec: Spec) -> list[str]:
    """The most probable class of each item, as its name or its index; ties go to the lower index."""
    best = labels(predictions.probs)
    return [str(i) for i in best.tolist()] if spec.label_as == "index" else predictions.classes[best].tolist()


def of_class(predictions: Predictions, name: str, key: str = "positive") -> list[str]:
    """The probability of one class for each item, as text. Raises RecipeError for an unknown class."""
    classes = predictions.classes.tolist()
    if name not in classes:
        raise RecipeError(f"{key}: {name!r} is not a class{did_you_mean(name, classes)}")
    return numbers(predictions.probs[:, classes.index(name)])


@submission_format("kaggle")
def kaggle(predictions: Predictions, spec: Spec) -> Sheet:
    """The id and the label."""
    if spec.label_as == "probabilities":
        raise RecipeError("kaggle holds labels, label_as is probabilities; type --format kaggle-probs")
    rows = columns(predictions.ids.tolist(), predicted_labels(predictions, spec))
    return Sheet((spec.id_column, spec.label_column), rows, spec.header, spec.separator)


@submission_format("kaggle-probs", probabilities=lambda spec: True)
def kaggle_probs(predictions: Predictions, spec: Spec) -> Sheet:
    """The id and a column of probabilities a class, or `label_column` for the `positive` class alone."""
    ids = predictions.ids.tolist()
    if spec.positive is not None:
        rows, header = columns(ids, of_class(predictions, spec.positive)), (spec.id_column, spec.label_column)
    else:
        rows = columns(ids, *(numbers(column) for column in predictions.probs.T))
        header = (spec.id_column, *predictions.classes.tolist())
    return Sheet(header, rows, spec.header, spec.separator)


@submission_format("codabench", zipped=True)
def codabench(predictions: Predictions, spec: Spec) -> Sheet:
    """A flat zip of one file with everything as the recipe says."""
    return (kaggle_probs if spec.label_as == "probabilities" else kaggle)(predictions, spec)
