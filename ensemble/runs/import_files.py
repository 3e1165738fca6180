"""Predictions read from a CSV or npz, and the CSV column of true classes (`label` and `target` may be classes)."""

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
    """Index of the column of targets in `header`, whose column 0 holds the ids; None without one.

    The first column of that name, unless the other columns sum to one in every row only if it is included: then
    it holds the probabilities of a class.
    """
    candidates = [index for index, name in enumerate(header) if index and name.lower() in TARGET_COLUMNS]
    if not candidates or not rows:
        return None
    for target_index in (*candidates, None):
        if _sums_to_one(rows, [index for index in range(1, len(header)) if index != target_index]):
            for index in candidates[: None if target_index is None else candidates.index(target_index)]:
                notes.add(f"the column {header[index]!r} is a class: the rows sum to one with it and not without")
            return target_index
    return candidates[0]


def _sums_to_one(rows: Sequence[Sequence[str]], columns: Sequence[int]) -> bool:
    try:
        probs: Floats = np.array([[row[column] for column in columns] for row in rows], np.float64)
    except ValueError:
        return False
    fits = (probs >= 0).all() and (np.abs(probs.sum(axis=1) - 1) <= ROW_TOLERANCE).all()
    return len(columns) > 1 and bool(fits)


def is_number(cell: str) -> bool:
    """Whether `float` accepts `cell`."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


MIN_LABELS = 10
"""Number of rows from which an accuracy of 1 is implausible."""


def read_predictions(path: Path, notes: Notes | None = None) -> Predictions:
    """Predictions from an npz or a CSV: ids first, one column per class, optionally `target` or `label`.

    notes: collects remarks on how the file was read. Raises DataError.
    """
    return _normalised(load(path)) if path.suffix.lower() == ".npz" else _read_csv(path, notes or Notes())


def _normalised(predictions: Predictions) -> Predictions:
    """Predictions with stripped ids and class names in NFC, as a CSV gives them."""
    ids, classes = (
        np.array([nfc(name.strip()) for name in array.tolist()]) for array in (predictions.ids, predictions.classes)
    )
    return checked(
        ids, predictions.probs, classes, predictions.targets, predictions.groups, source=predictions.source
    )


def _read_csv(path: Path, notes: Notes) -> Predictions:
    source = one_line(path)
    lines = _without_row_numbers([[nfc(cell.strip()) for cell in row.cells] for row in read_rows(path)[0]])
    header, rows = (lines[0], lines[1:]) if lines else ([], [])
    ragged = [row[0] for row in rows if len(row) != len(header)]
    if ragged:
        raise DataError(f"{source}: rows with other than {len(header)} cells: {first_few(ragged)}")
    target_index = target_column(header, rows, notes)
    class_columns = [column for column in range(1, len(header)) if column != target_index]
    if len(class_columns) < 2 or not rows:
        raise DataError(f"{source}: a header with an id and a column for each class, and rows, expected")
    classes = [header[column] for column in class_columns]
    ids = [row[0] for row in rows]
    if target_index is not None and header[target_index].lower() != "target":
        _refuse_predicted_labels([row[target_index] for row in rows], rows, class_columns, classes, source)
    probs = _numbers([[row[column] for column in class_columns] for row in rows], ids, source)
    targets = None
    if target_index is not None:
        targets = _targets([row[target_index] for row in rows], classes, probs, header[target_index], source, notes)
    _refuse_other_scales(probs, classes, source)
    return checked(np.array(ids), probs, np.array(classes), targets, source=source)


def _refuse_predicted_labels(
    labels: list[str], rows: list[list[str]], class_columns: Sequence[int], classes: Sequence[str], source: str
) -> None:
    """Raises DataError for a column `label` that is the argmax in every row, as `ens predict` writes it."""
    if len(labels) < MIN_LABELS or not all(is_number(row[column]) for row in rows for column in class_columns):
        return
    predicted = [classes[max(range(len(classes)), key=lambda c: float(row[class_columns[c]]))] for row in rows]
    if labels == predicted:
        raise DataError(
            f"{source}: the column 'label' is the most probable class in all {len(rows)} rows, so that it is"
            " predicted and not the truth; leave it out, or call it 'target' if it is the truth"
        )


def _without_row_numbers(lines: list[list[str]]) -> list[list[str]]:
    """The lines without the index column of pandas: no name, and consecutive row numbers."""
    is_index = len(lines) > 1 and lines[0] and lines[0][0] in ("", "Unnamed: 0")
    numbered = is_index and all(row and row[0] == str(number) for number, row in enumerate(lines[1:]))
    return [row[1:] for row in lines] if numbered else lines


def _refuse_other_scales(probs: Floats, classes: Sequence[str], source: str) -> None:
    """Raises DataError, with the likely cause, if no row sums to one: logits, percentages, a surplus column."""
    totals = probs.sum(axis=1)
    bad = np.abs(totals - 1) > ROW_TOLERANCE
    if not bad.all() or not np.isfinite(probs).all():
        return  # `checked` reports single rows
    if (probs < 0).any():
        advice = "negative numbers are no probabilities; apply softmax to logits, exp to log-probabilities"
    elif (np.abs(totals - 100) <= 100 * ROW_TOLERANCE).all():
        advice = "the rows sum to 100; divide by 100"
    else:
        advice = "if one of them is no class, leave it out"
    raise DataError(f"{source}: no row of the columns {first_few(classes, 12)} sums to one; {advice}")


def _numbers(cells: list[list[str]], ids: list[str], source: str) -> Floats:
    try:
        probs64 = np.array(cells, dtype=np.float64)
    except ValueError as error:
        bad_ids = [row_id for row_id, row in zip(ids, cells, strict=True) if not all(map(is_number, row))]
        commas = any("," in cell and is_number(cell.replace(",", ".")) for row in cells for cell in row)
        advice = "; write decimal points, not commas" if commas else ""
        raise DataError(f"{source}: not a number in the rows {first_few(bad_ids)}{advice}") from error
    probs32 = probs64.astype(np.float32)
    # float32 probabilities written by this package are read back exactly
    exact = np.abs(probs32.sum(axis=1, dtype=np.float64) - 1).max() <= 1e-6
    return probs32 if exact else probs64


def _targets(
    names: list[str], classes: Sequence[str], probs: Floats, column: str, source: str, notes: Notes
) -> Ints:
    """Class indices; an empty cell is an unknown target. Corrects targets that are off by one."""
    index = {"": UNKNOWN, **{name: number for number, name in enumerate(classes)}}
    unknown = sorted({name for name in names if name not in index})
    targets = np.array([index.get(name, UNKNOWN) for name in names], dtype=np.int64)
    if not unknown:
        return targets
    step = shift_of(names, classes)
    if step is not None:
        shifted = np.array([index[name and str(int(name) + step)] for name in names], dtype=np.int64)
        if fits_better(probs, targets, shifted):
            unused = max(classes, key=int) if step > 0 else min(classes, key=int)
            notes.add(
                f"{source}: {unknown[0]!r} in {column!r} is no class, and no target is {unused!r}:"
                f" {step:+d} is added to each target"
            )
            return shifted
    raise DataError(
        f"{source}: targets that are no class: {first_few(unknown)}; one of {first_few(classes)} expected"
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
