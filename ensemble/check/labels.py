"""Labels that are likely wrong: out-of-fold predictions disagree with them, by cleanlab's confident learning.

Northcutt, Jiang and Chuang 2021.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ensemble.core.errors import DataError
from ensemble.core.predictions import Predictions
from ensemble.runs.run import Run, all_runs

Z95_ONE_SIDED = 1.6448536269514722


@dataclass(frozen=True)
class LabelIssue:
    """One row. given, likely: class names.  confidence, likely_confidence: what the run says of the two."""

    id: str
    given: str
    likely: str
    confidence: float
    likely_confidence: float


def run_to_ask(runs: Path, fingerprint: str) -> Run | None:
    """The complete run of this data that knows most: the best `folds`, which saw no row that it speaks of, else the
    best other run with validation predictions; None where there is none.
    """
    found = [run for run in all_runs(runs) if run.complete and not run.is_fold and _usable(run, fingerprint)]
    return max(found, key=lambda run: (run.kind == "folds", valid_accuracy(run), run.id), default=None)


def _usable(run: Run, fingerprint: str) -> bool:
    try:
        return run.fingerprint == fingerprint and run.kind in ("folds", "member", "import") and run.has("valid")
    except DataError:
        return False


def valid_accuracy(run: Run) -> float:
    """On the labelled validation rows, as its metrics.json has it; 0 where that does not say."""
    return float((run.metrics.get("valid") or {}).get("accuracy") or 0.0)


def why_not_judged(predictions: Predictions) -> str:
    """Why these predictions say nothing about labels, or nothing where they do.

    Confident learning takes a network that guesses for one that knows. The accuracy must be above the share of the
    largest class by more than chance: Wilson's lower bound, one-sided at 95 %.
    """
    known = predictions.labelled
    n = int(known.sum())
    if predictions.targets is None or not n:
        return "no row has a label"
    targets = predictions.targets[known]
    right, largest = int((predictions.probs[known].argmax(1) == targets).sum()), int(np.bincount(targets).max())
    if _lower_bound(right, n) > largest / n:
        return ""
    return (
        f"it is right on {right} of {n} rows, which is not better than always saying the largest class"
        f" ({largest} of {n}) by more than chance; train a better member first"
    )


def _lower_bound(hits: int, n: int) -> float:
    share, spread = hits / n, Z95_ONE_SIDED**2 / n
    half = Z95_ONE_SIDED * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return (share + spread / 2 - half) / (1 + spread)


def label_issues(predictions: Predictions) -> list[LabelIssue]:
    """The rows whose label is likely wrong, the least likely label first; rows without a label are passed over."""
    from cleanlab.filter import find_label_issues

    known = np.flatnonzero(predictions.labelled)
    if not len(known) or predictions.targets is None:
        return []
    targets, probs = predictions.targets[known], np.asarray(predictions.probs[known], np.float64)
    probs /= probs.sum(1, keepdims=True)
    with warnings.catch_warnings():
        # one for each class of few rows, which the counts of classes say once
        warnings.simplefilter("ignore", UserWarning)
        ranked: Sequence[int] = find_label_issues(
            targets, probs, return_indices_ranked_by="self_confidence", n_jobs=1
        ).tolist()
    return [_issue(predictions, int(known[at]), int(targets[at]), probs[at]) for at in ranked]


def _issue(predictions: Predictions, row: int, given: int, probs: np.ndarray) -> LabelIssue:
    likely = int(probs.argmax())
    names = predictions.classes
    return LabelIssue(
        str(predictions.ids[row]), str(names[given]), str(names[likely]), float(probs[given]), float(probs[likely])
    )
