"""Which column of a CSV of predictions holds the true classes: a class may be called `label` or `target` too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ensemble.core.errors import DataError, first_few, one_line
from ensemble.core.names import nfc
from ensemble.core.predictions import ROW_TOLERANCE, UNKNOWN, Floats, Ints, Predictions, checked, load
from ensemble.data.csv_files import read_rows
from ensemble.data.listing import Notes
from ensemble.runs.import_match import fits_better, shift_of

TARGET_COLUMNS = ("target", "label")


def target_column(header: Sequence[str], rows: Sequence[Sequence[str]], notes: Notes) -> int | None:
    """The place of the column of targets in `header`, whose first column holds the ids; None where there is none.

    That is the first called so, unless the others are only probabilities, which sum to one, together with it.
    """
    called = [at for at, name in enumerate(header) if at and name.lower() in TARGET_COLUMNS]
    if not called or not rows:
        return None
    for target_at in (*called, None):
        if _sums_to_one(rows, [at for at in range(1, len(header)) if at != target_at]):
            for at in called[: None if target_at is None else called.index(target_at)]:
                notes.add(f"the column {header[at]!r} is a class: the rows sum to one with it and not without")
            return target_at
    return called[0]


def _sums_to_one(rows: Sequence[Sequence[str]], columns: Sequence[int]) -> bool:
    try:
        probs: Floats = np.array([[row[at] for at in columns] for row in rows], np.float64)
    except ValueError:
        return False
    fits = (probs >= 0).all() and (np.abs(probs.sum(axis=1) - 1) <= ROW_TOLERANCE).all()
    return len(columns) > 1 and bool(fits)


def is_number(cell: str) -> bool:
    """Whether `cell` is a number as Python reads it."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


FEWEST_LABELS = 10
"""Rows of which no network is likely to be right on every one."""


def read_predictions(path: Path, notes: Notes | None = None) -> Predictions:
    """Predictions from an npz, or a CSV: ids first, a column a class, perhaps one called target or label.

    notes: takes what a person should know of how the file was read. Raises DataError.
    """
    return _composed(load(path)) if path.suffix.lower() == ".npz" else _read_csv(path, notes or Notes())


def _composed(read: Predictions) -> Predictions:
    """With ids and classes as a CSV would give them."""
    ids, classes = (np.array([nfc(name.strip()) for name in names.tolist()]) for names in (read.ids, read.classes))
    return checked(ids, read.probs, classes, read.targets, read.groups, source=read.source)


def _read_csv(path: Path, notes: Notes) -> Predictions:
    source = one_line(path)
    lines = _without_row_numbers([[nfc(cell.strip()) for cell in row.cells] for row in read_rows(path)[0]])
    header, rows = (lines[0], lines[1:]) if lines else ([], [])
    ragged = [row[0] for row in rows if len(row) != len(header)]
    if ragged:
        raise DataError(f"{source}: rows with other than {len(header)} cells: {first_few(ragged)}")
    target_at = target_column(header, rows, notes)
    class_at = [at for at in range(1, len(header)) if at != target_at]
    if len(class_at) < 2 or not rows:
        raise DataError(f"{source}: a header with an id and a column for each class, and rows, expected")
    classes = [header[at] for at in class_at]
    ids = [row[0] for row in rows]
    if target_at is not None and header[target_at].lower() != "target":
        _refuse_predicted_labels([row[target_at] for row in rows], rows, class_at, classes, source)
    probs = _numbers([[row[at] for at in class_at] for row in rows], ids, source)
    targets = None
    if target_at is not None:
        targets = _targets([row[target_at] for row in rows], classes, probs, header[target_at], source, notes)
    _refuse_other_scales(probs, classes, source)
    return checked(np.array(ids), probs, np.array(classes), targets, source=source)


def _refuse_predicted_labels(
    labels: list[str], rows: list[list[str]], class_at: Sequence[int], classes: Sequence[str], source: str
) -> None:
    """Raises DataError for a column `label` that is each row's most probable class, as `ens predict` writes."""
    if len(labels) < FEWEST_LABELS or not all(is_number(row[at]) for row in rows for at in class_at):
        return
    likely = [classes[max(range(len(classes)), key=lambda c: float(row[class_at[c]]))] for row in rows]
    if labels == likely:
        raise DataError(
            f"{source}: the column 'label' is the most probable class in all {len(rows)} rows, so that it is"
            " predicted and not the truth; leave it out, or call it 'target' if it is the truth"
        )


def _without_row_numbers(lines: list[list[str]]) -> list[list[str]]:
    """Without the first column where pandas wrote it: no name, and the numbers of the rows."""
    is_index = len(lines) > 1 and lines[0] and lines[0][0] in ("", "Unnamed: 0")
    numbered = is_index and all(row and row[0] == str(number) for number, row in enumerate(lines[1:]))
    return [row[1:] for row in lines] if numbered else lines


def _refuse_other_scales(probs: Floats, classes: Sequence[str], source: str) -> None:
    """Raises DataError for what no row of probabilities can be, and says what it looks like."""
    totals = probs.sum(axis=1)
    bad = np.abs(totals - 1) > ROW_TOLERANCE
    if not bad.all() or not np.isfinite(probs).all():
        return  # single rows are named by `checked`
    if (probs < 0).any():
        advice = "negative numbers are no probabilities; apply softmax to logits, exp to log-probabilities"
    elif (np.abs(totals - 100) <= 100 * ROW_TOLERANCE).all():
        advice = "the rows sum to 100; divide by 100"
    else:
        advice = "if one of them is no class, leave it out"
    raise DataError(f"{source}: no row of the columns {first_few(classes, 12)} sums to one; {advice}")


def _numbers(cells: list[list[str]], ids: list[str], source: str) -> Floats:
    try:
        wide = np.array(cells, dtype=np.float64)
    except ValueError as error:
        wrong = [one for one, row in zip(ids, cells, strict=True) if not all(map(is_number, row))]
        commas = any("," in cell and is_number(cell.replace(",", ".")) for row in cells for cell in row)
        advice = "; write decimal points, not commas" if commas else ""
        raise DataError(f"{source}: not a number in the rows {first_few(wrong)}{advice}") from error
    narrow = wide.astype(np.float32)
    # probabilities that we once wrote come back as the very same numbers
    exact = np.abs(narrow.sum(axis=1, dtype=np.float64) - 1).max() <= 1e-6
    return narrow if exact else wide


def _targets(
    names: list[str], classes: Sequence[str], probs: Floats, column: str, source: str, notes: Notes
) -> Ints:
    """Indices of class names; an empty cell is an unknown target."""
    index = {"": UNKNOWN, **{name: at for at, name in enumerate(classes)}}
    strange = sorted({name for name in names if name not in index})
    named = np.array([index.get(name, UNKNOWN) for name in names], dtype=np.int64)
    if not strange:
        return named
    step = shift_of(names, classes)
    if step is not None:
        shifted = np.array([index[name and str(int(name) + step)] for name in names], dtype=np.int64)
        if fits_better(probs, named, shifted):
            unused = max(classes, key=int) if step > 0 else min(classes, key=int)
            notes.add(
                f"{source}: {strange[0]!r} in {column!r} is no class, and no target is {unused!r}:"
                f" {step:+d} is added to each target"
            )
            return shifted
    raise DataError(
        f"{source}: targets that are no class: {first_few(strange)}; one of {first_few(classes)} expected"
        f"{_advice(names, column, step)}"
    )


def _advice(names: Sequence[str], column: str, step: int | None) -> str:
    if step is not None:
        return f"; where the targets count from another number, write the names of the classes ({step:+d} to each)"
    if all(is_number(name) and 0 <= float(name) <= 1 for name in names if name):
        other = " or ".join(repr(name) for name in TARGET_COLUMNS if name != column.lower())
        return (
            f"; if {column!r} is a class, its column and the others must sum to one in every row, and the true"
            f" classes, if any, be called {other}"
        )
    return ""
