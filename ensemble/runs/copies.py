"""Whether two runs hold one model's predictions: a copy would have a second vote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

import numpy as np

from ensemble.errors import DataError, first_few
from ensemble.predictions import Predictions, align
from ensemble.runs.run import Run

WRITTEN = 5e-4
"""How far probabilities that were written with three decimals may be off."""


def same(first: Predictions, second: Predictions) -> bool:
    """Whether both give the same probabilities, as far as three decimals tell, for the same ids and classes."""
    if first.probs.shape != second.probs.shape or set(first.ids.tolist()) != set(second.ids.tolist()):
        return False
    if set(first.classes.tolist()) != set(second.classes.tolist()):
        return False
    other = align(second, first.ids, first.classes).probs
    return bool(np.abs(first.probs.astype(np.float64) - other).max(initial=0) <= WRITTEN)


def copied_from(splits: Mapping[str, Predictions], runs: Iterable[Run]) -> Run | None:
    """The run whose validation predictions are those of `splits`, unless its test predictions differ."""
    for run in runs:
        with suppress(DataError):  # a run that cannot be read is nobody's copy
            if run.has("valid") and _is_copy(splits, run):
                return run
    return None


def _is_copy(splits: Mapping[str, Predictions], run: Run) -> bool:
    if not same(splits["valid"], run.predictions("valid")):
        return False
    # two models that know no doubt may agree on few rows; what they say of the test tells them apart
    test = splits.get("test")
    return test is None or not run.has("test") or not _differ(test, run.predictions("test"))


def _differ(first: Predictions, second: Predictions) -> bool:
    return set(first.ids.tolist()) == set(second.ids.tolist()) and not same(first, second)


def is_copy(run: Run, other: Run) -> bool:
    """The same of two runs."""
    return (
        copied_from({split: run.predictions(split) for split in ("valid", "test") if run.has(split)}, [other])
        == other
    )


def refuse_shared_rows(valid: Predictions, test: Predictions, known_test: frozenset[str]) -> None:
    """Raises DataError for a test that is the validation rows again, or shares ids with them.

    known_test: the ids of the data set's own test, which may be those of other images that are numbered anew.
    """
    shared = sorted(set(valid.ids.tolist()) & set(test.ids.tolist()) - known_test)
    if same(valid, test) or shared:
        names = shared or sorted(test.ids.tolist())
        raise DataError(
            f"{test.source}: {len(names)} of {len(test)} ids are in {valid.source} too: {first_few(names)};"
            " give the predictions of the test images"
        )
