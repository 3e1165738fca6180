"""A sample submission as a template: columns, spelling and order of ids, rows to fill."""

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
from ensemble.submit.columns import AnswerColumns, AnswerKind, answer_columns
from ensemble.submit.formats import Sheet, Spec, columns, of_class, predicted_labels

UNIFORM, PRIOR = "uniform", "prior"


@dataclass(frozen=True)
class Fill:
    """Fill value of missing rows. choice: as in --fill.  probs: float32 (k,), in the predictions' order of classes.

    source: origin of the shares of `prior`, or empty.
    """

    choice: str
    probs: Floats
    source: str = ""

    def facts(self, ids: list[str]) -> dict[str, Any]:
        """The entry `filled` of the sidecar; ids: the filled rows."""
        source = {"from": self.source} if self.source else {}
        return {"with": self.choice, **source, "probs": self.probs.tolist(), "rows": len(ids), "ids": ids}


def fill_of(choice: str, run: Run, predictions: Predictions) -> Fill:
    """The Fill for `uniform`, `prior` or a class. Raises RecipeError for another, DataError for an unknown prior.

    A class named `uniform` or `prior` takes precedence. prior: the class shares among the labelled validation rows
    of `run`, else (e.g. a refit) among the training images that it records.
    """
    classes = predictions.classes.tolist()
    name = nfc(choice.strip())
    if name in classes:
        return Fill(name, np.eye(len(classes), dtype=np.float32)[classes.index(name)])
    if name == UNIFORM:
        return Fill(name, np.full(len(classes), 1 / len(classes), np.float32))
    if name == PRIOR:
        counts, source = _counts(run, predictions)
        return Fill(name, (counts / counts.sum()).astype(np.float32), source)
    choices = (UNIFORM, PRIOR, *classes)
    raise RecipeError(f"--fill {choice!r} found; uniform, prior or a class expected{did_you_mean(name, choices)}")


def _counts(run: Run, predictions: Predictions) -> tuple[Floats, str]:
    """Class counts, float64 (k,), and what was counted."""
    classes = predictions.classes
    if run.has("valid"):
        valid = run.predictions("valid")
        valid = align(valid, valid.ids, classes)
        if valid.targets is not None:
            class_counts = np.bincount(valid.targets[valid.labelled], minlength=len(classes))
            return class_counts.astype(np.float64), f"the labelled validation rows of {run.id}"
    counts, names = run.record.shown.get("before"), run.record.classes
    if counts and len(counts) == len(names) and set(names) == set(classes.tolist()):
        by_class: dict[str, int] = dict(zip(names, counts, strict=True))
        ordered = np.array([by_class[name] for name in classes.tolist()], np.float64)
        return ordered, f"the training images of {run.id}"
    raise DataError(
        f"--fill prior: {run.id} knows neither labels of validation rows nor of training images; type"
        " --fill uniform, or a class"
    )


def filled(predictions: Predictions, missing: list[str], fill: Fill) -> Predictions:
    """`predictions` with a row for each id of `missing`, without targets; sorted by id if `predictions` are."""
    if not missing:
        return predictions
    ids = np.concatenate([predictions.ids, np.array(missing, dtype=np.str_)])
    probs = np.concatenate([predictions.probs, np.repeat(fill.probs[None], len(missing), axis=0)])
    given_ids = predictions.ids.tolist()
    order = np.argsort(ids, kind="stable") if given_ids == sorted(given_ids) else np.arange(len(ids))
    return replace(predictions, ids=ids[order], probs=probs[order], targets=None, groups=None)


@dataclass(frozen=True)
class Template:
    """A sample submission. header: column names.  cells: str (n, columns).  id_at: index of the column of ids."""

    header: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    id_at: int
    with_header: bool
    separator: str
    source: str

    @property
    def ids(self) -> list[str]:
        """The ids as spelled and ordered in the sample."""
        return [row[self.id_at] for row in self.cells]

    @property
    def answers(self) -> tuple[str, ...]:
        """Names of the columns to fill in."""
        return tuple(name for index, name in enumerate(self.header) if index != self.id_at)


def read_template(path: Path, spec: Spec, classes: Texts) -> Template:
    """Read a sample submission. Raises DataError if it is not a table with ids and an answer."""
    source = one_line(path)
    rows, separator = read_rows(path, f"{spec.separator},;\t")
    lines = [row.cells for row in rows]
    if not lines:
        raise DataError(f"the sample {source} is empty; a header and a row for each item expected")
    if not spec.header:
        answer_names = (spec.label_column,) if len(lines[0]) == 2 else tuple(classes.tolist())
        lines.insert(0, (spec.id_column, *answer_names))
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
    """Index of the column `name`, case-insensitive if there is no exact match; else 0."""
    casefolded = [column.casefold() for column in header]
    if name in header:
        return header.index(name)
    return casefolded.index(name.casefold()) if name.casefold() in casefolded else 0


def fill(
    template: Template,
    predictions: Predictions,
    spec: Spec,
    *,
    probabilities: bool,
    unnamed: str | None = None,
) -> Sheet:
    """The template filled with the predictions: labels in a single column, or probabilities in its column order.

    probabilities: whether a single column shall hold one.  unnamed: a class that the template may leave out.
    Raises DataError for ids or columns that do not match, RecipeError if `positive` is required.
    """
    rows = matching_rows(template, predictions.ids)
    ordered = replace(predictions, ids=predictions.ids[rows], probs=predictions.probs[rows])
    answer = answer_columns(
        template, predictions.classes.tolist(), spec, probabilities=probabilities, unnamed=unnamed
    )
    answers = _answers(template, ordered, spec, answer)
    cells = [*answers[: template.id_at], template.ids, *answers[template.id_at :]]
    return Sheet(template.header, columns(*cells), template.with_header, template.separator)


def _answers(template: Template, predictions: Predictions, spec: Spec, answer: AnswerColumns) -> list[list[str]]:
    if answer.kind is AnswerKind.LABEL:
        return [predicted_labels(predictions, spec)]
    if answer.kind is AnswerKind.DECISION:
        predicted = predictions.classes[labels(predictions.probs)].tolist()
        return [["1" if name == answer.classes[0] else "0" for name in predicted]]
    return [of_class(predictions, name) for name in answer.classes]


def matching_rows(template: Template, ids: Texts) -> Ints:
    """The row of `ids` (n,) for each id of the template, int64 (n,).

    File extensions of images, and leading folders, may be present in only one of the two.

    Raises DataError that names up to five duplicate, missing or extra ids.
    """
    given_ids, rows = ids.tolist(), _rows(template, ids)
    expected = template.ids
    problems = {
        "no prediction for": [item_id for item_id, row in zip(expected, rows, strict=True) if row is None],
        "more than once": _repeated(expected, rows),
        "predicted but not in it": [given_ids[row] for row in sorted(set(range(len(given_ids))) - set(rows))],
    }
    listed = "; ".join(f"{problem}: {first_few(names)}" for problem, names in problems.items() if names)
    if listed:
        missing_count = len(problems["no prediction for"])
        fillable = 0 < missing_count < len(expected) and not problems["predicted but not in it"]
        raise DataError(
            f"the sample {template.source} has {len(expected)} ids, {len(given_ids)} were predicted ({listed});"
            f" give the sample of this test set{_FILL_HINT if fillable else ''}"
        )
    return np.array(rows, dtype=np.int64)


_FILL_HINT = ", or type --fill uniform, --fill prior or --fill CLASS, which writes the missing rows"


def unpredicted(template: Template, ids: Texts) -> list[str]:
    """The ids of the template that are missing in `ids` (n,); none if all are, as it is the wrong sample then."""
    rows = _rows(template, ids)
    missing = [item_id for item_id, row in zip(template.ids, rows, strict=True) if row is None]
    return missing if len(missing) < len(rows) else []


def _rows(template: Template, ids: Texts) -> list[int | None]:
    return Spellings(ids.tolist()).rows(template.ids)


def _repeated(template_ids: list[str], rows: list[int | None]) -> list[str]:
    seen: set[int] = set()
    repeated = []
    for item_id, row in zip(template_ids, rows, strict=True):
        if row is not None and row in seen:
            repeated.append(item_id)
        elif row is not None:
            seen.add(row)
    return repeated
