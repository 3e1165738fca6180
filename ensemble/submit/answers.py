"""What the answer columns of a sample submission hold: decided here, from the header first, then the values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from ensemble.data.names import nfc
from ensemble.errors import DataError, RecipeError, first_few
from ensemble.submit.sheet import Spec

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
class Answer:
    """holds: what a column holds.  classes: of which class, a column each; empty for labels.

    note: what a single column was taken for, and why; empty where the columns are the classes.
    """

    holds: Holds
    classes: tuple[str, ...] = ()
    note: str = ""


def answer_of(
    sample: Sample, classes: list[str], spec: Spec, *, probabilities: bool, unnamed: str | None = None
) -> Answer:
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
        return Answer(Holds.PROBABILITY, columns)
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
    return Answer(
        Holds.LABEL, note=f"column {column!r} is taken for the label, {why}{_or_a_class(values, classes)}"
    )


def _of_class(name: str, column: str, why: str, spec: Spec, probabilities: bool) -> Answer:
    if spec.label_as == "index" and not probabilities:
        taken = f"1 where the predicted class is {name!r}, else 0, {why}, with label_as: index"
        return Answer(Holds.DECISION, (name,), f"column {column!r} holds {taken}")
    return Answer(Holds.PROBABILITY, (name,), f"column {column!r} is taken for the probability of {name!r}, {why}")


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


def label_notes(sample: Sample, answer: Answer, classes: list[str], spec: Spec) -> tuple[str, ...]:
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
