"""Label columns of a table: one-hot, or probabilities, a column a class, and perhaps a class without one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ensemble.data.csvfile import Table
from ensemble.errors import DataError, first_few
from ensemble.predictions import ROW_TOLERANCE

_TRUTHS = {"true": 1.0, "false": 0.0}
Floats = npt.NDArray[np.floating[Any]]


def numbers(table: Table, columns: Sequence[str], key: str = "label_columns") -> Floats:
    """float64 (n, columns) of a table; empty rows are NaN. Raises DataError for what is no number."""
    values = np.empty((len(table), len(columns)), np.float64)
    for index, column in enumerate(columns):
        for row, text in enumerate(table.column(column, key)):
            values[row, index] = _number(text, table, column, row)
    partly = np.isnan(values).any(axis=1) & ~np.isnan(values).all(axis=1)
    if partly.any():
        rows = [table.rows[row] for row in np.flatnonzero(partly)]
        raise DataError(f"{table.name}: some of the label columns are empty in {first_few(rows)}")
    return values


def share(text: str) -> float:
    """A cell's number; 1 and 0 for `True` and `False`, as pandas 2 writes columns of dummies. Raises ValueError."""
    truth = _TRUTHS.get(text.lower())
    return float(text) if truth is None else truth


def _number(text: str, table: Table, column: str, row: int) -> float:
    if not text:
        return np.nan
    try:
        value = share(text)
    except ValueError:
        value = np.nan
    if not 0 <= value <= 1:
        raise DataError(f"{table.name}, column {column!r}, {table.rows[row]}: {text!r} found, 0 to 1 expected")
    return value


def one_hot_labels(
    values: Floats, ids: Sequence[str], names: Sequence[str], unnamed: bool, where: str
) -> list[str]:
    """The class of each row, "" for a row of NaN.

    values: (n, c) of 0 and 1.  names: the c columns, then the unnamed class, which a row of
    zeros means, where `unnamed`. Raises DataError that names rows with two positives, fractions, or none.
    """
    known = np.asarray(~np.isnan(values).any(axis=1))
    _refuse(
        known & ((values != 0) & (values != 1)).any(axis=1),
        ids,
        f"{where}: rows with values other than 0 and 1",
        "set data.soft_labels: true if they are probabilities",
    )
    positives = np.nan_to_num(values).sum(axis=1)
    _refuse(
        positives > 1,
        ids,
        f"{where}: rows with two positive labels",
        "one expected; correct them, or set data.soft_labels: true and give probabilities",
    )
    _refuse(
        known & (positives == 0) & (not unnamed),
        ids,
        f"{where}: rows of zeros",
        "set data.unnamed_class to the name of the class that they mean",
    )
    places = np.where(positives == 0, len(names) - 1, np.argmax(np.nan_to_num(values), axis=1))
    return [names[place] if has else "" for place, has in zip(places.tolist(), known.tolist(), strict=True)]


def soft_rows(values: Floats, ids: Sequence[str], unnamed: bool, where: str) -> npt.NDArray[np.float32]:
    """float32 (n, k) that sum to one, NaN where unknown; what is left of one goes to the unnamed class.

    values: (n, c) in 0..1. Raises DataError that names rows that do not sum to one within 1e-3.
    """
    totals = values.sum(axis=1)
    if unnamed:
        rest = 1 - totals
        bad = rest < -ROW_TOLERANCE
        values = np.column_stack([values, np.clip(rest, 0, 1)])
        totals = values.sum(axis=1)
    else:
        bad = np.abs(totals - 1) > ROW_TOLERANCE
    _refuse(bad, ids, f"{where}: rows that do not sum to one within {ROW_TOLERANCE:g}", "correct them")
    soft: npt.NDArray[np.float32] = (values / totals[:, None]).astype(np.float32)
    return soft


def _refuse(bad: npt.NDArray[np.bool_], ids: Sequence[str], found: str, advice: str) -> None:
    if bad.any():
        named = [name for name, is_bad in zip(ids, bad.tolist(), strict=True) if is_bad]
        raise DataError(f"{found}: {first_few(named)}; {advice}")
