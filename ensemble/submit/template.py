"""A sample submission as a template: its columns, the spelling and order of its ids, rows to fill."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.core.errors import DataError, RecipeError, first_few, one_line
from ensemble.core.names import nfc
from ensemble.core.predictions import Floats, Ints, Predictions, Texts, align
from ensemble.core.registry import did_you_mean
from ensemble.data.csv_files import read_rows
from ensemble.data.file_index import Spellings
from ensemble.metrics import labels
from ensemble.runs.run import Run
from ensemble.submit.columns import AnswerColumns, Holds, answer_columns
from ensemble.submit.formats import Sheet, Spec, columns, of_class, predicted_labels

UNIFORM, PRIOR = "uniform", "prior"


@dataclass(frozen=True)
class Fill:
    """What missing rows hold. how: as it was asked for.  probs: float32 (k,), classes in the predictions' order.

    source: where `prior` has the shares from, or empty.
    """

    how: str
    probs: Floats
    source: str = ""

    def facts(self, ids: list[str]) -> dict[str, Any]:
        """For the sidecar."""
        source = {"from": self.source} if self.source else {}
        return {"with": self.how, **source, "probs": self.probs.tolist(), "rows": len(ids), "ids": ids}


def fill_of(how: str, run: Run, predictions: Predictions) -> Fill:
    """`uniform`, `prior` or the name of a class. Raises RecipeError for another, DataError for an unknown prior.

    A class called `uniform` or `prior` is that class. prior: the shares of the classes among the labelled
    validation rows of `run`, else, as of a refit, among the training images that it records.
    """
    classes = predictions.classes.tolist()
    name = nfc(how.strip())
    if name in classes:
        return Fill(name, np.eye(len(classes), dtype=np.float32)[classes.index(name)])
    if name == UNIFORM:
        return Fill(name, np.full(len(classes), 1 / len(classes), np.float32))
    if name == PRIOR:
        counts, source = _counts(run, predictions)
        return Fill(name, (counts / counts.sum()).astype(np.float32), source)
    known = (UNIFORM, PRIOR, *classes)
    raise RecipeError(f"--fill {how!r} found; uniform, prior or a class expected{did_you_mean(name, known)}")


def _counts(run: Run, predictions: Predictions) -> tuple[Floats, str]:
    """How many images of each class, float64 (k,), and of what."""
    classes = predictions.classes
    if run.has("valid"):
        valid = run.predictions("valid")
        valid = align(valid, valid.ids, classes)
        if valid.targets is not None:
            counted = np.bincount(valid.targets[valid.labelled], minlength=len(classes))
            return counted.astype(np.float64), f"the labelled validation rows of {run.id}"
    counts, names = (run.facts.get("shown") or {}).get("before"), run.facts.get("classes") or []
    if counts and len(counts) == len(names) and set(names) == set(classes.tolist()):
        by_class: dict[str, int] = dict(zip(names, counts, strict=True))
        ordered = np.array([by_class[name] for name in classes.tolist()], np.float64)
        return ordered, f"the training images of {run.id}"
    raise DataError(
        f"--fill prior: {run.id} knows neither labels of validation rows nor of training images; type"
        " --fill uniform, or a class"
    )


def filled(predictions: Predictions, missing: list[str], fill: Fill) -> Predictions:
    """`predictions` with a row for each id of `missing`, in the order of ids where they are in it; no targets."""
    if not missing:
        return predictions
    ids = np.concatenate([predictions.ids, np.array(missing, dtype=np.str_)])
    probs = np.concatenate([predictions.probs, np.repeat(fill.probs[None], len(missing), axis=0)])
    before = predictions.ids.tolist()
    order = np.argsort(ids, kind="stable") if before == sorted(before) else np.arange(len(ids))
    return replace(predictions, ids=ids[order], probs=probs[order], targets=None, groups=None)


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

    probabilities: whether a single column is to hold one.  unnamed: a class that the template may leave out.
    Raises DataError for ids or columns that do not match, RecipeError when `positive` must be said.
    """
    rows = matching_rows(template, predictions.ids)
    ordered = replace(predictions, ids=predictions.ids[rows], probs=predictions.probs[rows])
    kind = answer_columns(
        template, predictions.classes.tolist(), spec, probabilities=probabilities, unnamed=unnamed
    )
    answers = _answers(template, ordered, spec, kind)
    cells = [*answers[: template.id_at], template.ids, *answers[template.id_at :]]
    return Sheet(template.header, columns(*cells), template.with_header, template.separator)


def _answers(template: Template, predictions: Predictions, spec: Spec, kind: AnswerColumns) -> list[list[str]]:
    if kind.holds is Holds.LABEL:
        return [predicted_labels(predictions, spec)]
    if kind.holds is Holds.DECISION:
        best = predictions.classes[labels(predictions.probs)].tolist()
        return [["1" if name == kind.classes[0] else "0" for name in best]]
    return [of_class(predictions, name) for name in kind.classes]


def matching_rows(template: Template, ids: Texts) -> Ints:
    """The row of `ids` (n,) for each id of the template, int64 (n,), with or without a picture's extension.

    An id of the template may have folders before it that ours lacks, or lack folders that ours has.

    Raises DataError that names the first five that are duplicate, missing or extra.
    """
    have, found = ids.tolist(), _rows(template, ids)
    wanted = template.ids
    problems = {
        "no prediction for": [one for one, row in zip(wanted, found, strict=True) if row is None],
        "more than once": _repeated(wanted, found),
        "predicted but not in it": [have[row] for row in sorted(set(range(len(have))) - set(found))],
    }
    listed = "; ".join(f"{what}: {first_few(names)}" for what, names in problems.items() if names)
    if listed:
        lacking = len(problems["no prediction for"])
        fillable = 0 < lacking < len(wanted) and not problems["predicted but not in it"]
        raise DataError(
            f"the sample {template.source} has {len(wanted)} ids, {len(have)} were predicted ({listed});"
            f" give the sample of this test set{_OR_FILL if fillable else ''}"
        )
    return np.array(found, dtype=np.int64)


_OR_FILL = ", or type --fill uniform, --fill prior or --fill CLASS, which writes the missing rows"


def unpredicted(template: Template, ids: Texts) -> list[str]:
    """The ids of the template that `ids` (n,) lacks; none where it lacks them all, as another sample is meant."""
    found = _rows(template, ids)
    missing = [one for one, row in zip(template.ids, found, strict=True) if row is None]
    return missing if len(missing) < len(found) else []


def _rows(template: Template, ids: Texts) -> list[int | None]:
    return Spellings(ids.tolist()).rows(template.ids)


def _repeated(wanted: list[str], found: list[int | None]) -> list[str]:
    seen: set[int] = set()
    again = []
    for one, row in zip(wanted, found, strict=True):
        if row is not None and row in seen:
            again.append(one)
        elif row is not None:
            seen.add(row)
    return again
