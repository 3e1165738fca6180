"""Scores of each class."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.labelled import rows_of
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score

from ensemble.report.classes import balance, class_scores, confusion


@given(st.integers(2, 5), st.integers(8, 60), st.integers(0, 999))
@settings(max_examples=60)
def test_class_scores_are_scikit_learns(k: int, n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = rows_of(np.concatenate([np.arange(k), random.integers(0, k, n)]), random.random((n + k, k)) + 1e-3)
    assert confusion(rows).tolist() == confusion_matrix(rows.targets, rows.predicted, labels=range(k)).tolist()
    result = class_scores(rows)
    precision, recall, f1, support = precision_recall_fscore_support(
        rows.targets, rows.predicted, labels=range(k), zero_division=np.nan
    )
    for c, item in enumerate(result):
        assert item.precision == pytest.approx(precision[c], nan_ok=True)
        assert item.recall == pytest.approx(recall[c])
        assert item.rows == support[c]
        assert item.auc == pytest.approx(roc_auc_score(rows.targets == c, rows.probs[:, c]))
        assert item.tp + item.fn + item.fp + item.tn == n + k
        others = rows.targets != c
        assert item.specificity == pytest.approx((rows.predicted[others] != c).mean())
        if item.precision + item.recall > 0:
            assert item.f1 == pytest.approx(f1[c])
    even = balance(result)
    assert even.mean == pytest.approx(recall.mean()) and even.lowest == pytest.approx(recall.min())


def test_class_without_rows_has_no_scores() -> None:
    rows = rows_of([0, 0, 1], [[3, 1, 1], [1, 3, 1], [1, 3, 1]])
    missing = class_scores(rows)[2]
    assert np.isnan([missing.recall, missing.precision, missing.f1, missing.auc]).all()
    assert missing.specificity == 1
    assert balance(class_scores(rows)).worst == "c0"
