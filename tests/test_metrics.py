"""Metrics are what scikit-learn says, and survive classes that no target names."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ensemble.errors import RecipeError
from ensemble.metrics import labels, metrics, score


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


@st.composite
def scored(draw):
    n, k = draw(st.integers(1, 30)), draw(st.integers(2, 5))
    logits = draw(hnp.arrays(np.float64, (n, k), elements=st.floats(-5, 5, width=32)))
    targets = draw(hnp.arrays(np.int64, n, elements=st.integers(0, k - 1)))
    return softmax(logits), targets


def by_hand(probs, targets):
    """Every metric as its definition reads, in loops."""
    said = [max(range(len(row)), key=lambda c: (row[c], -c)) for row in probs.tolist()]
    present = sorted(set(targets.tolist()))
    recalls, f1s = [], []
    for c in present:
        hit = sum(s == c and t == c for s, t in zip(said, targets, strict=True))
        actual, claimed = sum(targets == c), sum(s == c for s in said)
        recalls.append(hit / actual)
        f1s.append(2 * hit / (actual + claimed))
    rows = range(len(targets))
    return {
        "accuracy": sum(s == t for s, t in zip(said, targets, strict=True)) / len(targets),
        "balanced_accuracy": sum(recalls) / len(present),
        "macro_f1": sum(f1s) / len(present),
        "log_loss": -sum(np.log(probs[i, targets[i]]) for i in rows) / len(targets),
        "brier": sum(sum((probs[i] - np.eye(probs.shape[1])[targets[i]]) ** 2) for i in rows) / len(targets),
    }


@given(scored())
def test_metrics_are_their_definitions(case):
    probs, targets = case
    assert score(probs, targets) == pytest.approx(by_hand(probs, targets), rel=1e-9, abs=1e-12)


def test_metrics_agree_with_scikit_learn():
    from sklearn import metrics as theirs

    random = np.random.default_rng(0)
    probs, targets = softmax(random.normal(size=(200, 4))), random.integers(0, 4, 200)
    ours, said = score(probs, targets), probs.argmax(axis=1)
    assert ours["accuracy"] == pytest.approx(theirs.accuracy_score(targets, said))
    assert ours["balanced_accuracy"] == pytest.approx(theirs.balanced_accuracy_score(targets, said))
    assert ours["macro_f1"] == pytest.approx(theirs.f1_score(targets, said, average="macro"))
    assert ours["log_loss"] == pytest.approx(theirs.log_loss(targets, probs))


def test_ties_go_to_the_lower_class():
    probs = np.array([[0.25, 0.375, 0.375], [0.5, 0.5, 0.0]])
    assert labels(probs).tolist() == [1, 0]


def test_a_probability_of_zero_is_not_infinitely_bad():
    assert 30 < metrics.get("log_loss")(np.array([[1.0, 0.0]]), np.array([1])) < 40


def test_directions():
    lower = {name for name in metrics.names() if not metrics.get(name).higher}
    assert lower == {"log_loss", "brier"}
    assert metrics.get("brier").better(0.1, 0.2)
    assert metrics.get("accuracy").better(0.2, 0.1)


def test_no_rows_no_scores():
    assert score(np.zeros((0, 3)), np.zeros(0, np.int64)) == {}


def test_an_unknown_metric_names_the_nearest():
    with pytest.raises(RecipeError, match="did you mean 'accuracy'"):
        metrics.get("acuracy")
