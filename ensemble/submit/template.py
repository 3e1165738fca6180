"""A sample submission as the template: its columns, its spelling of the ids, its order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ensemble.data.csvrows import read_rows
from ensemble.data.names import nfc, stem
from ensemble.errors import DataError, RecipeError, first_few, one_line
from ensemble.predictions import Ints, Predictions, Texts
from ensemble.submit.formats import of_class, predicted_labels
from ensemble.submit.sheet import Sheet, Spec, columns, numbers


@dataclass(frozen=True)
class Template:
    """header: the column names.  cells: str (n, columns).  id_at: which column holds the ids."""

    header: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    id_at: int
    with_header: bool
    separator: str
    source: str

    @property
    def ids(self) -> list[str]:
        """The ids as the sample spells them, in its order."""
        return [row[self.id_at] for row in self.cells]

    @property
    def answers(self) -> tuple[str, ...]:
        """The columns to fill in."""
        return tuple(name for at, name in enumerate(self.header) if at != self.id_at)


def read_template(path: Path, spec: Spec, classes: Texts) -> Template:
    """Read a sample submission. Raises DataError when it is not a table with ids and an answer."""
    source = one_line(path)
    rows, separator = read_rows(path, f"{spec.separator},;\t")
    lines = [row.cells for row in rows]
    if not lines:
        raise DataError(f"the sample {source} is empty; a header and a row for each item expected")
    if not spec.header:
        middle = (spec.label_column,) if len(lines[0]) == 2 else tuple(classes.tolist())
        lines.insert(0, (spec.id_column, *middle))
    header, cells = tuple(nfc(name.strip()) for name in lines[0]), tuple(lines[1:])
    ragged = [" ".join(row) for row in cells if len(row) != len(header)]
    if ragged or len(header) < 2:
        raise DataError(
            f"the sample {source} has {len(header)} columns, but other rows: {first_few(ragged)}"
            if ragged
            else f"the sample {source} has the one column {header[0]!r}; an id and an answer expected"
        )
    return Template(header, cells, _id_at(header, nfc(spec.id_column)), spec.header, separator, source)


def _id_at(header: tuple[str, ...], name: str) -> int:
    """The column of this name, in any case of letters where none is spelled so; else the first."""
    cased = [column.casefold() for column in header]
    if name in header:
        return header.index(name)
    return cased.index(name.casefold()) if name.casefold() in cased else 0


def fill(
    template: Template,
    predictions: Predictions,
    spec: Spec,
    *,
    probabilities: bool,
    unnamed: str | None = None,
) -> Sheet:
    """The template with our answers: labels in a single column, or probabilities in its columns' order.

    probabilities: whether a single column holds one.  unnamed: a class that the template may leave out.
    Raises DataError for ids or columns that do not match, RecipeError when `positive` must be said.
    """
    rows = matching_rows(template, predictions.ids)
    ordered = replace(predictions, ids=predictions.ids[rows], probs=predictions.probs[rows])
    answers = _answers(template, ordered, spec, probabilities, unnamed)
    cells = [*answers[: template.id_at], template.ids, *answers[template.id_at :]]
    return Sheet(template.header, columns(*cells), template.with_header, template.separator)


def _answers(
    template: Template, predictions: Predictions, spec: Spec, probabilities: bool, unnamed: str | None
) -> list[list[str]]:
    asked, classes = template.answers, predictions.classes.tolist()
    if set(asked) <= set(classes) and set(classes) - set(asked) <= {unnamed}:
        return [numbers(predictions.probs[:, classes.index(name)]) for name in asked]
    if len(asked) > 1:
        strange = [name for name in asked if name not in classes]
        lacking = [name for name in classes if name not in asked]
        raise DataError(
            f"the sample {template.source} has other columns than the classes"
            f" (not a class: {first_few(strange) or 'none'}; missing: {first_few(lacking) or 'none'});"
            " rename the columns or the classes"
        )
    if not probabilities and not holds_probability(template, classes):
        return [predicted_labels(predictions, spec)]
    positive = spec.positive or (asked[0] if asked[0] in classes else None)
    if positive is None:
        raise RecipeError(
            f"the sample {template.source} has one column {asked[0]!r} of probabilities; say of which class"
            f" with `positive:` under `submit:` in the recipe, one of {first_few(classes)}"
        )
    return [of_class(predictions, positive)]


def label_notes(template: Template, classes: list[str], spec: Spec, *, probabilities: bool) -> tuple[str, ...]:
    """What to say when the labels that the sample shows are none that we would write."""
    if len(template.answers) > 1 or probabilities or {*template.answers} & {*classes}:
        return ()
    if holds_probability(template, classes):
        return ()
    numbered = {str(at) for at in range(len(classes))}
    values = _values(template) - {""}
    if not values or values & (numbered if spec.label_as == "index" else set(classes)):
        return ()
    shown = f"none of the sample's labels is one that is written: {first_few(sorted(values))}"
    if values <= numbered:
        return (f"{shown}; if they are places in the list of classes, set label_as: index under `submit:`",)
    return (f"{shown}; the classes are {first_few(classes)}",)


def _values(template: Template) -> set[str]:
    """What the single answer column of the sample holds."""
    return {nfc(row[1 - template.id_at].strip()) for row in template.cells}


def holds_probability(template: Template, classes: list[str]) -> bool:
    """Whether the single answer column holds fractions such as 0.5, which no label is but a class may be."""
    values = _values(template)
    if not values or values <= set(classes):
        return False
    return all(_is_share(value) for value in values) and any("." in value for value in values)


def _is_share(value: str) -> bool:
    try:
        return 0 <= float(value) <= 1
    except ValueError:
        return False


def matching_rows(template: Template, ids: Texts) -> Ints:
    """The row of `ids` (n,) for each id of the template, int64 (n,), with or without a picture's extension.

    An id of the template may have folders before it that ours lacks.

    Raises DataError that names the first five that are duplicate, missing or extra.
    """
    wanted, have = template.ids, ids.tolist()
    exact = {one: row for row, one in enumerate(have)}
    stems: dict[str, list[int]] = {}
    for row, one in enumerate(have):
        stems.setdefault(_key(one), []).append(row)
    found = [exact.get(one, _meant(_key(one), stems)) for one in wanted]
    problems = {
        "no prediction for": [one for one, row in zip(wanted, found, strict=True) if row is None],
        "more than once": _repeated(wanted, found),
        "predicted but not in it": [have[row] for row in sorted(set(range(len(have))) - set(found))],
    }
    listed = "; ".join(f"{what}: {first_few(names)}" for what, names in problems.items() if names)
    if listed:
        raise DataError(
            f"the sample {template.source} has {len(wanted)} ids, {len(have)} were predicted ({listed});"
            " give the sample of this test set"
        )
    return np.array(found, dtype=np.int64)


def _key(name: str) -> str:
    return stem(nfc(name.strip()))


def _meant(key: str, stems: Mapping[str, list[int]]) -> int | None:
    rows = stems.get(key) or stems.get(key.rpartition("/")[2], [])
    return rows[0] if len(rows) == 1 else None


def _repeated(wanted: list[str], found: list[int | None]) -> list[str]:
    seen: set[int] = set()
    again = []
    for one, row in zip(wanted, found, strict=True):
        if row is not None and row in seen:
            again.append(one)
        elif row is not None:
            seen.add(row)
    return again
