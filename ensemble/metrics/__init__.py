"""Metrics: pure functions of probabilities (n, k) and targets (n,).

A metric is a decorated function. The caller leaves out rows without a target (-1); averages over classes leave
out classes absent from the targets, so that no metric fails on a small or imbalanced set. Values equal
scikit-learn's where scikit-learn has the metric.
"""

from ensemble.metrics.base import (
    Metric,
    Metrics,
    Rows,
    Summary,
    View,
    absent,
    check_name,
    find,
    metric,
    metrics,
    score,
)
from ensemble.metrics.classification import (
    SMALLEST,
    accuracy,
    balanced_accuracy,
    brier,
    ece,
    kappa,
    labels,
    log_loss,
    macro_f1,
    roc_auc,
)

__all__ = [
    "SMALLEST",
    "Metric",
    "Metrics",
    "Rows",
    "Summary",
    "View",
    "absent",
    "accuracy",
    "balanced_accuracy",
    "brier",
    "check_name",
    "ece",
    "find",
    "kappa",
    "labels",
    "log_loss",
    "macro_f1",
    "metric",
    "metrics",
    "roc_auc",
    "score",
]
