"""How good predictions are: pure functions of probabilities (n, k) and targets (n,).

A metric is one decorated function. Rows without a target (-1) are the caller's to leave out; classes that no
target names are left out here, so that no metric fails on a small or lopsided set. The values are
scikit-learn's where it has the metric.
"""

from ensemble.metrics.base import Metric, Metrics, Rows, Summary, View, metric, metrics
from ensemble.metrics.decisions import accuracy, balanced_accuracy, kappa, labels, macro_f1
from ensemble.metrics.names import check_name, find
from ensemble.metrics.probabilities import SMALLEST, brier, ece, log_loss
from ensemble.metrics.ranking import roc_auc
from ensemble.metrics.scoring import absent, score

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
