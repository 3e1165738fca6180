"""Registry of submission formats, and the text tables that they produce.

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
from ensemble.core.names import PANDAS_NA_VALUES
from ensemble.core.predictions import Floats, Predictions
from ensemble.core.registry import Registry, did_you_mean
from ensemble.metrics import labels

_EPOCH = (1980, 1, 1, 0, 0, 0)  # a constant time stamp makes the bytes of a zip reproducible


class Spec(Protocol):
    """Protocol with the keys of a recipe's `submit` section."""

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
    """A table of text. header: the column names.  rows: one per item, with one cell per column."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    with_header: bool = True
    separator: str = ","

    def csv(self) -> bytes:
        """The CSV in UTF-8, with line feeds, and quotes only where a cell needs them."""
        out = io.StringIO()
        writer = csv.writer(out, delimiter=self.separator, lineterminator="\n")
        if self.with_header:
            writer.writerow(self.header)
        writer.writerows(self.rows)
        return out.getvalue().encode()


def missing_notes(sheet: Sheet) -> tuple[str, ...]:
    """A note on cells that scorers read as missing values, with the error `Submission contains null values`."""
    cells = sorted({cell for row in sheet.rows for cell in row if cell in PANDAS_NA_VALUES})
    if not cells:
        return ()
    return (
        f"{first_few(cells)} may be read as missing values: pandas, and most scorers, do so unless told otherwise",
    )


def numbers(values: Floats) -> list[str]:
    """Probabilities (n,) as text with nine significant digits, which identify a float32."""
    return [f"{value:.9g}" for value in values.tolist()]


def zipped(content: bytes, name: str) -> bytes:
    """Reproducible bytes of a zip archive with the single file `name`.

    Raises RecipeError if `name` is not a plain file name.
    """
    if not name.isprintable() or name in ("", ".", "..") or PurePath(name).name != name or "\\" in name:
        raise RecipeError(f"inner_name {one_line(name)!r} found, a file name without folders expected")
    out = io.BytesIO()
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system = 3  # Unix, on every system
    info.external_attr = 0o644 << 16
    # stored, not deflated, as the output of zlib differs between builds
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(info, content)
    return out.getvalue()


def columns(ids: Sequence[str], *cells: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Rows of cells from columns."""
    return tuple(zip(ids, *cells, strict=True))


Build = Callable[[Predictions, Spec], Sheet]


@dataclass(frozen=True)
class Format:
    """A format. probabilities: whether a single answer column holds one.  zipped: whether it is always zipped."""

    name: str
    build: Build
    probabilities: Callable[[Spec], bool]
    zipped: bool


formats: Registry[Format] = Registry("submission format")


def _wants_probabilities(spec: Spec) -> bool:
    return spec.label_as == "probabilities"


def submission_format(
    name: str, *, probabilities: Callable[[Spec], bool] = _wants_probabilities, zipped: bool = False
) -> Callable[[Build], Build]:
    """Decorator that registers a function (predictions, spec) -> Sheet as `name`."""

    def add(build: Build) -> Build:
        formats.register(name)(Format(name, build, probabilities, zipped))
        return build

    return add


def predicted_labels(predictions: Predictions, spec: Spec) -> list[str]:
    """The most probable class of each item, as name or index; ties go to the lower index."""
    predicted = labels(predictions.probs)
    return (
        [str(index) for index in predicted.tolist()]
        if spec.label_as == "index"
        else predictions.classes[predicted].tolist()
    )


def of_class(predictions: Predictions, name: str, key: str = "positive") -> list[str]:
    """The probability of class `name` for each item, as text. Raises RecipeError for an unknown class."""
    classes = predictions.classes.tolist()
    if name not in classes:
        raise RecipeError(f"{key}: {name!r} is not a class{did_you_mean(name, classes)}")
    return numbers(predictions.probs[:, classes.index(name)])


@submission_format("kaggle")
def kaggle(predictions: Predictions, spec: Spec) -> Sheet:
    """Columns: id, label."""
    if spec.label_as == "probabilities":
        raise RecipeError("kaggle holds labels, label_as is probabilities; type --format kaggle-probs")
    rows = columns(predictions.ids.tolist(), predicted_labels(predictions, spec))
    return Sheet((spec.id_column, spec.label_column), rows, spec.header, spec.separator)


@submission_format("kaggle-probs", probabilities=lambda spec: True)
def kaggle_probs(predictions: Predictions, spec: Spec) -> Sheet:
    """Columns: id, and a probability per class, or of `positive` alone, as `label_column`."""
    ids = predictions.ids.tolist()
    if spec.positive is not None:
        rows, header = columns(ids, of_class(predictions, spec.positive)), (spec.id_column, spec.label_column)
    else:
        rows = columns(ids, *(numbers(column) for column in predictions.probs.T))
        header = (spec.id_column, *predictions.classes.tolist())
    return Sheet(header, rows, spec.header, spec.separator)


@submission_format("codabench", zipped=True)
def codabench(predictions: Predictions, spec: Spec) -> Sheet:
    """The same as kaggle or kaggle-probs, by `label_as`, in a zip."""
    return (kaggle_probs if spec.label_as == "probabilities" else kaggle)(predictions, spec)
