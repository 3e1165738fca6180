"""The columns of a sample submission: their content and the spelling of ids."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ensemble.core.errors import DataError, RecipeError, first_few, one_line
from ensemble.core.names import nfc
from ensemble.data.csv_files import Table, read_csv
from ensemble.data.file_index import Spellings
from ensemble.submit.formats import Spec

if TYPE_CHECKING:
    from ensemble.recipe.data_spec import DataSpec


LABEL_COLUMNS = ("label", "labels", "class", "classes", "category", "target", "targets", "prediction", "answer")
"""Case-insensitive names of a column of labels."""


class Sample(Protocol):
    """The attributes of a `Template` that this module uses."""

    @property
    def answers(self) -> tuple[str, ...]: ...
    @property
    def cells(self) -> tuple[tuple[str, ...], ...]: ...
    @property
    def id_at(self) -> int: ...
    @property
    def source(self) -> str: ...


class AnswerKind(Enum):
    """Content of a column: the predicted label, the probability of a class, or whether a class is predicted."""

    LABEL = "the label"
    PROBABILITY = "the probability"
    DECISION = "1 or 0"


@dataclass(frozen=True)
class AnswerColumns:
    """kind: content of the answer columns.  classes: the class of each column; empty for labels.

    note: how a single column was interpreted, and why; empty if the columns are the classes.
    """

    kind: AnswerKind
    classes: tuple[str, ...] = ()
    note: str = ""


def answer_columns(
    sample: Sample, classes: list[str], spec: Spec, *, probabilities: bool, unnamed: str | None = None
) -> AnswerColumns:
    """The content of the answer columns of `sample`.

    Several columns are the classes. A single one is interpreted, in this order: by the recipe or the options; as
    the probability of the class with its name; as the label if its name is in `LABEL_COLUMNS`; by its values. Names
    that the values contradict are ignored: no label is 0.5.
    probabilities: whether the format writes probabilities.  unnamed: a class that the columns may leave out.
    Raises DataError for columns that differ from the classes, RecipeError if `positive` is required.
    """
    columns = sample.answers
    if len(columns) > 1:
        _refuse_other_columns(sample, classes, unnamed)
        return AnswerColumns(AnswerKind.PROBABILITY, columns)
    column, values = columns[0], _values(sample)
    matching_class = _class_named(column, classes)
    if spec.positive is not None:
        return _of_class(spec.positive, column, "as `positive` says", spec, probabilities)
    if matching_class is not None and not _are_labels(values, classes):
        return _of_class(matching_class, column, "as it is called so", spec, probabilities)
    if probabilities or _are_probabilities(values, classes):
        raise RecipeError(
            f"the sample {sample.source} has one column {column!r} of probabilities; say of which class with"
            f" `positive:` under `submit:` in the recipe, or --positive, one of {first_few(classes)}"
        )
    reason = "as it is called" if column.casefold() in LABEL_COLUMNS else "as its values are no probabilities"
    return AnswerColumns(
        AnswerKind.LABEL,
        note=f"column {column!r} is taken for the label, {reason}{_positive_hint(values, classes)}",
    )


def _of_class(name: str, column: str, reason: str, spec: Spec, probabilities: bool) -> AnswerColumns:
    if spec.label_as == "index" and not probabilities:
        interpretation = f"1 where the predicted class is {name!r}, else 0, {reason}, with label_as: index"
        return AnswerColumns(AnswerKind.DECISION, (name,), f"column {column!r} holds {interpretation}")
    return AnswerColumns(
        AnswerKind.PROBABILITY, (name,), f"column {column!r} is taken for the probability of {name!r}, {reason}"
    )


def _positive_hint(values: set[str], classes: list[str]) -> str:
    """A hint at --positive if all values are 0 or 1 and these are no classes; else empty."""
    if not values or values & set(classes) or not values <= {"0", "1"}:
        return ""
    return "; if it holds a probability, say of which class with --positive"


def _refuse_other_columns(sample: Sample, classes: list[str], unnamed: str | None) -> None:
    """Raises DataError unless the columns are the classes; only `unnamed` may be missing."""
    unknown = [name for name in sample.answers if name not in classes]
    missing = [name for name in classes if name not in sample.answers]
    if unknown or set(missing) - {unnamed}:
        raise DataError(
            f"the sample {sample.source} has other columns than the classes"
            f" (not a class: {first_few(unknown) or 'none'}; missing: {first_few(missing) or 'none'});"
            " rename the columns or the classes"
        )


def _class_named(column: str, classes: list[str]) -> str | None:
    """The class with the name of a column, case-insensitive if that is unique; else None."""
    if column in classes:
        return column
    matches = [name for name in classes if name.casefold() == column.casefold()]
    return matches[0] if len(matches) == 1 else None


def _values(sample: Sample) -> set[str]:
    """The distinct non-empty values of the single answer column of the sample."""
    return {nfc(row[1 - sample.id_at].strip()) for row in sample.cells} - {""}


def _are_labels(values: set[str], classes: list[str]) -> bool:
    """Whether all values are class names, and not all could be probabilities."""
    return bool(values) and values <= set(classes) and not all(map(_is_probability, values))


def _are_probabilities(values: set[str], classes: list[str]) -> bool:
    """Whether all values are in [0, 1], some with a decimal point, and not all are class names."""
    if not values or values <= set(classes):
        return False
    return all(_is_probability(value) for value in values) and any("." in value for value in values)


def _is_probability(value: str) -> bool:
    try:
        return 0 <= float(value) <= 1
    except ValueError:
        return False


def label_notes(sample: Sample, answer: AnswerColumns, classes: list[str], spec: Spec) -> tuple[str, ...]:
    """A note if none of the labels in the sample is one that would be written."""
    if answer.kind is not AnswerKind.LABEL:
        return ()
    indices = {str(index) for index in range(len(classes))}
    values = _values(sample)
    if not values or values & (indices if spec.label_as == "index" else set(classes)):
        return ()
    note = f"none of the sample's labels is one that is written: {first_few(sorted(values))}"
    if values <= indices:
        return (f"{note}; if they are places in the list of classes, set label_as: index under `submit:`",)
    return (f"{note}; the classes are {first_few(classes)}",)


def spelling_notes(ids: list[str], spec: Spec, split: str, data: DataSpec | None) -> tuple[str, ...]:
    """A note if the table of `split` has another header for the ids, or other spellings of `ids` (n,)."""
    path = None if data is None else _table_path(data, split)
    if data is None or path is None:
        return ()
    try:
        table = read_csv(path)
    except DataError:  # the predictions suffice
        return ()
    header = next((name for name in _id_columns(data, table) if name in table.columns), None)
    if header is None:
        return ()
    spelling = _other_spelling(ids, table.columns[header])
    other_header = spec.header and header != spec.id_column
    if spelling is None and not other_header:
        return ()
    changes = [f"calls the ids {header!r} (here {spec.id_column!r})"] if other_header else []
    changes += [f"spells them {spelling[1]!r} (here {spelling[0]!r})"] if spelling else []
    hint = f", or `submit: {{id_column: {header}}}` in the recipe" if spelling is None else ""
    return (
        f"{one_line(path.name)} {' and '.join(changes)}: where the competition does so too, --sample with its"
        f" sample submission{hint} writes them so",
    )


def _table_path(data: DataSpec, split: str) -> Path | None:
    name = data.test if split == "test" else data.tests.get(split.removeprefix("test-"))
    if data.form != "csv" or name is None:
        return None
    # imported late, as it loads the recipe reader, which runs without images do not need
    from ensemble.data.table_splits import with_csv

    root = Path(data.path)
    path = root / with_csv(root, name)
    return path if path.is_file() else None


def _id_columns(data: DataSpec, table: Table) -> Iterable[str]:
    """Candidates for the column of ids, the likeliest first."""
    return [name for name in (data.id_column, data.path_column, *table.named[:1]) if name is not None]


def _other_spelling(ids: list[str], values: list[str]) -> tuple[str, str] | None:
    """The first id with another spelling in `values`, and that; None if all are equal or some id is missing."""
    rows = Spellings(ids).rows(values)
    if not set(range(len(ids))) <= set(rows):
        return None
    pairs = ((ids[row], value) for row, value in zip(rows, values, strict=True) if row is not None)
    return next((pair for pair in pairs if pair[0] != pair[1]), None)
