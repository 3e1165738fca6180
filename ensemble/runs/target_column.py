"""Which column of a CSV of predictions holds the true classes: a class may be called `label` or `target` too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ensemble.data.notes import Notes
from ensemble.predictions import ROW_TOLERANCE, Floats

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
