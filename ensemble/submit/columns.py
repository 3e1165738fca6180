"""The columns of a sample submission: what they hold and how they spell ids."""

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
    from ensemble.recipe.schema import DataSpec


LABEL_COLUMNS = ("label", "labels", "class", "classes", "category", "target", "targets", "prediction", "answer")
"""Names of a column that holds the label, in any case of letters."""


class Sample(Protocol):
    """The part of a `Template` that is looked at."""

    @property
    def answers(self) -> tuple[str, ...]: ...
    @property
    def cells(self) -> tuple[tuple[str, ...], ...]: ...
    @property
    def id_at(self) -> int: ...
    @property
    def source(self) -> str: ...


class Holds(Enum):
    """A column may hold the predicted label, the probability of a class, or 1 where it is the predicted one."""

    LABEL = "the label"
    PROBABILITY = "the probability"
    DECISION = "1 or 0"


@dataclass(frozen=True)
class AnswerColumns:
    """holds: what a column holds.  classes: of which class, a column each; empty for labels.

    note: what a single column was taken for, and why; empty where the columns are the classes.
    """

    holds: Holds
    classes: tuple[str, ...] = ()
    note: str = ""


def answer_columns(
    sample: Sample, classes: list[str], spec: Spec, *, probabilities: bool, unnamed: str | None = None
) -> AnswerColumns:
    """What the columns of `sample` hold.

    Several columns are the classes. A single one is, in this order: what the recipe or the options say; the
    probability of the class that it is called like; the label where it is called `label`, `target`, `class` and
    the like; what its values look like. Names that the values contradict count for nothing: no label is 0.5.
    probabilities: whether the format says so.  unnamed: a class that the columns may leave out.
    Raises DataError for columns that are other than the classes, RecipeError where `positive` must be said.
    """
    columns = sample.answers
    if len(columns) > 1:
        _refuse_other_columns(sample, classes, unnamed)
        return AnswerColumns(Holds.PROBABILITY, columns)
    column, values = columns[0], _values(sample)
    named = _class_called(column, classes)
    if spec.positive is not None:
        return _of_class(spec.positive, column, "as `positive` says", spec, probabilities)
    if named is not None and not _are_labels(values, classes):
        return _of_class(named, column, "as it is called so", spec, probabilities)
    if probabilities or _are_shares(values, classes):
        raise RecipeError(
            f"the sample {sample.source} has one column {column!r} of probabilities; say of which class with"
            f" `positive:` under `submit:` in the recipe, or --positive, one of {first_few(classes)}"
        )
    why = "as it is called" if column.casefold() in LABEL_COLUMNS else "as its values are no probabilities"
    return AnswerColumns(
        Holds.LABEL, note=f"column {column!r} is taken for the label, {why}{_or_a_class(values, classes)}"
    )


def _of_class(name: str, column: str, why: str, spec: Spec, probabilities: bool) -> AnswerColumns:
    if spec.label_as == "index" and not probabilities:
        taken = f"1 where the predicted class is {name!r}, else 0, {why}, with label_as: index"
        return AnswerColumns(Holds.DECISION, (name,), f"column {column!r} holds {taken}")
    return AnswerColumns(
        Holds.PROBABILITY, (name,), f"column {column!r} is taken for the probability of {name!r}, {why}"
    )


def _or_a_class(values: set[str], classes: list[str]) -> str:
    """What to type if 0 and 1, which are no class, are meant for a probability."""
    if not values or values & set(classes) or not values <= {"0", "1"}:
        return ""
    return "; if it holds a probability, say of which class with --positive"


def _refuse_other_columns(sample: Sample, classes: list[str], unnamed: str | None) -> None:
    """Raises DataError unless the columns are the classes, of which `unnamed` alone may lack."""
    strange = [name for name in sample.answers if name not in classes]
    lacking = [name for name in classes if name not in sample.answers]
    if strange or set(lacking) - {unnamed}:
        raise DataError(
            f"the sample {sample.source} has other columns than the classes"
            f" (not a class: {first_few(strange) or 'none'}; missing: {first_few(lacking) or 'none'});"
            " rename the columns or the classes"
        )


def _class_called(column: str, classes: list[str]) -> str | None:
    """The class that a column is called like, in any case of letters where that is one alone."""
    if column in classes:
        return column
    alike = [name for name in classes if name.casefold() == column.casefold()]
    return alike[0] if len(alike) == 1 else None


def _values(sample: Sample) -> set[str]:
    """What the single answer column of the sample holds."""
    return {nfc(row[1 - sample.id_at].strip()) for row in sample.cells} - {""}


def _are_labels(values: set[str], classes: list[str]) -> bool:
    """Whether they are names of classes, and not the numbers that a probability may be too."""
    return bool(values) and values <= set(classes) and not all(map(_is_share, values))


def _are_shares(values: set[str], classes: list[str]) -> bool:
    """Whether they are fractions such as 0.5, which no label is but a class may be."""
    if not values or values <= set(classes):
        return False
    return all(_is_share(value) for value in values) and any("." in value for value in values)


def _is_share(value: str) -> bool:
    try:
        return 0 <= float(value) <= 1
    except ValueError:
        return False


def label_notes(sample: Sample, answer: AnswerColumns, classes: list[str], spec: Spec) -> tuple[str, ...]:
    """What to say when the labels that the sample shows are none that we would write."""
    if answer.holds is not Holds.LABEL:
        return ()
    numbered = {str(at) for at in range(len(classes))}
    values = _values(sample)
    if not values or values & (numbered if spec.label_as == "index" else set(classes)):
        return ()
    shown = f"none of the sample's labels is one that is written: {first_few(sorted(values))}"
    if values <= numbered:
        return (f"{shown}; if they are places in the list of classes, set label_as: index under `submit:`",)
    return (f"{shown}; the classes are {first_few(classes)}",)


def spelling_notes(ids: list[str], spec: Spec, split: str, data: DataSpec | None) -> tuple[str, ...]:
    """A note where the table of `split` has another header for the ids, or other spellings of `ids` (n,)."""
    path = None if data is None else _table_of(data, split)
    if data is None or path is None:
        return ()
    try:
        table = read_csv(path)
    except DataError:  # the predictions are there, and are all that is needed
        return ()
    header = next((name for name in _columns(data, table) if name in table.columns), None)
    if header is None:
        return ()
    spelled = _other_spelling(ids, table.columns[header])
    other_header = spec.header and header != spec.id_column
    if spelled is None and not other_header:
        return ()
    told = [f"calls the ids {header!r} (here {spec.id_column!r})"] if other_header else []
    told += [f"spells them {spelled[1]!r} (here {spelled[0]!r})"] if spelled else []
    keys = f", or `submit: {{id_column: {header}}}` in the recipe" if spelled is None else ""
    return (
        f"{one_line(path.name)} {' and '.join(told)}: where the competition does so too, --sample with its sample"
        f" submission{keys} writes them so",
    )


def _table_of(data: DataSpec, split: str) -> Path | None:
    name = data.test if split == "test" else data.tests.get(split.removeprefix("test-"))
    if data.form != "csv" or name is None:
        return None
    # not at the start: it loads the reader of recipes, which runs of nobody's images do without
    from ensemble.data.table_splits import with_csv

    root = Path(data.path)
    path = root / with_csv(root, name)
    return path if path.is_file() else None


def _columns(data: DataSpec, table: Table) -> Iterable[str]:
    """The columns that the ids may be in, the likeliest first."""
    return [name for name in (data.id_column, data.path_column, *table.named[:1]) if name is not None]


def _other_spelling(ids: list[str], values: list[str]) -> tuple[str, str] | None:
    """An id and what stands for it among `values`; None where these are the ids, or do not say all of them."""
    rows = Spellings(ids).rows(values)
    if not set(range(len(ids))) <= set(rows):
        return None
    pairs = ((ids[row], value) for row, value in zip(rows, values, strict=True) if row is not None)
    return next((pair for pair in pairs if pair[0] != pair[1]), None)
