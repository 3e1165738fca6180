"""How good predictions are: pure functions of probabilities (n, k) and targets (n,).

A metric is one decorated function. Rows without a target (-1) are the caller's to leave out; classes that no
target names are left out here, so that no metric fails on a small or lopsided set. The values are
scikit-learn's where it has the metric.
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
