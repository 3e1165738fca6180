"""Label errors found by confident learning (cleanlab) from out-of-fold predictions.

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
from ensemble.runs.record import Kind
from ensemble.runs.run import Run, all_runs

Z95_ONE_SIDED = 1.6448536269514722


@dataclass(frozen=True)
class LabelIssue:
    """One row. given, likely: class names.  confidence, likely_confidence: their predicted probabilities."""

    id: str
    given: str
    likely: str
    confidence: float
    likely_confidence: float


def best_run_for_labels(runs: Path, fingerprint: str) -> Run | None:
    """The complete run of this data best suited to find label errors; None without one.

    The most accurate `folds` run, whose predictions are out-of-fold, else the most accurate other run with
    validation predictions.
    """
    candidates = [run for run in all_runs(runs) if run.complete and not run.is_fold and _usable(run, fingerprint)]
    return max(candidates, key=lambda run: (run.kind is Kind.FOLDS, valid_accuracy(run), run.id), default=None)


def _usable(run: Run, fingerprint: str) -> bool:
    try:
        return (
            run.fingerprint == fingerprint
            and run.kind in (Kind.FOLDS, Kind.MEMBER, Kind.IMPORT)
            and run.has("valid")
        )
    except DataError:
        return False


def valid_accuracy(run: Run) -> float:
    """Accuracy on the labelled validation rows from metrics.json; 0 if missing."""
    return float((run.metrics.get("valid") or {}).get("accuracy") or 0.0)


def why_unusable(predictions: Predictions) -> str:
    """Why these predictions cannot be used to check labels; empty if they can.

    Confident learning does not detect a network that guesses. Wilson's one-sided 95 % lower bound of the accuracy
    must exceed the share of the largest class.
    """
    has_label = predictions.labelled
    n = int(has_label.sum())
    if predictions.targets is None or not n:
        return "no row has a label"
    targets = predictions.targets[has_label]
    correct, largest = (
        int((predictions.probs[has_label].argmax(1) == targets).sum()),
        int(np.bincount(targets).max()),
    )
    if _lower_bound(correct, n) > largest / n:
        return ""
    return (
        f"it is right on {correct} of {n} rows, which is not better than always saying the largest class"
        f" ({largest} of {n}) by more than chance; train a better member first"
    )


def _lower_bound(hits: int, n: int) -> float:
    share, scaled_z = hits / n, Z95_ONE_SIDED**2 / n
    half = Z95_ONE_SIDED * math.sqrt(share * (1 - share) / n + scaled_z / (4 * n))
    return (share + scaled_z / 2 - half) / (1 + scaled_z)


def label_issues(predictions: Predictions) -> list[LabelIssue]:
    """The labelled rows whose label is likely wrong, by increasing probability of the given label."""
    from cleanlab.filter import find_label_issues

    labelled_rows = np.flatnonzero(predictions.labelled)
    if not len(labelled_rows) or predictions.targets is None:
        return []
    targets, probs = predictions.targets[labelled_rows], np.asarray(predictions.probs[labelled_rows], np.float64)
    probs /= probs.sum(1, keepdims=True)
    with warnings.catch_warnings():
        # one warning per rare class, which the class counts report already
        warnings.simplefilter("ignore", UserWarning)
        ranked: Sequence[int] = find_label_issues(
            targets, probs, return_indices_ranked_by="self_confidence", n_jobs=1
        ).tolist()
    return [_issue(predictions, int(labelled_rows[index]), int(targets[index]), probs[index]) for index in ranked]


def _issue(predictions: Predictions, row: int, label: int, probs: np.ndarray) -> LabelIssue:
    predicted = int(probs.argmax())
    names = predictions.classes
    return LabelIssue(
        str(predictions.ids[row]),
        str(names[label]),
        str(names[predicted]),
        float(probs[label]),
        float(probs[predicted]),
    )
