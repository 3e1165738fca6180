"""Metrics are what scikit-learn says, and do not depend on classes that no target names."""

from __future__ import annotations

import math
import time
import warnings

import numpy as np
import pytest
from helpers.class_names import CLASSES
from helpers.synthetic import softmax
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as theirs

from ensemble.metrics import SMALLEST, find, labels, metrics, score

exact = {"rel": 1e-9, "abs": 1e-9}


def one_hot(logits):
    return np.eye(logits.shape[1])[logits.argmax(axis=1)]


def constant(logits):
    return softmax(np.tile(logits[:1], (len(logits), 1)))


def tied(logits):
    return softmax(np.round(logits / 4))


@st.composite
def scored(draw):
    """probs (n, k) and targets (n,) that name some of the classes; many ties in some."""
    n, k = draw(st.integers(1, 30)), draw(st.integers(2, 5))
    logits = draw(hnp.arrays(np.float64, (n, k), elements=st.floats(-5, 5, width=32)))
    probs = draw(st.sampled_from([softmax, one_hot, constant, tied]))(logits)
    named = draw(st.lists(st.integers(0, k - 1), min_size=1, unique=True))
    targets = draw(hnp.arrays(np.int64, n, elements=st.sampled_from(named)))
    return probs.astype(draw(st.sampled_from([np.float32, np.float64]))), targets


def areas(probs, targets):
    """scikit-learn's area of each class against the rest, of those with rows on both sides."""
    sides = [targets == c for c in range(probs.shape[1])]
    return {
        c: theirs.roc_auc_score(item, probs[:, c]) for c, item in enumerate(sides) if item.any() and not item.all()
    }


def by_scikit_learn(probs, targets):
    output, present, k = probs.argmax(axis=1), sorted(set(targets.tolist())), probs.shape[1]
    one_sided = output.tolist() == targets.tolist() and len(present) == 1
    wide = np.clip(probs.astype(np.float64), SMALLEST, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are predicted and absent, of rows that sum to 1 + 1e-7
        result = {
            "accuracy": theirs.accuracy_score(targets, output),
            "balanced_accuracy": theirs.balanced_accuracy_score(targets, output),
            "macro_f1": theirs.f1_score(targets, output, average="macro", labels=present, zero_division=0),
            "kappa": 0.0 if one_sided else theirs.cohen_kappa_score(targets, output),
            "log_loss": theirs.log_loss(targets, wide, labels=range(k)),
            "brier": np.square(np.eye(k)[targets] - probs.astype(np.float64)).sum(axis=1).mean(),
        }
    of_classes = areas(probs, targets)
    return result | ({"roc_auc": np.mean(list(of_classes.values()))} if of_classes else {})


def ece_by_hand(probs, targets, bins=15):
    """Guo 2017, equations 2 and 3, in a loop over bins that hold their upper end."""
    confidence, output = probs.max(axis=1).astype(np.float64), probs.argmax(axis=1)
    total = 0.0
    for b in range(bins):
        inside = [i for i in range(len(targets)) if b / bins < confidence[i] <= (b + 1) / bins]
        if inside:
            right = sum(output[i] == targets[i] for i in inside) / len(inside)
            total += len(inside) / len(targets) * abs(right - sum(confidence[inside]) / len(inside))
    return total


@given(scored())
@example((np.full((1, 2), 0.5, np.float32), np.array([1])))
@example((np.eye(3, dtype=np.float32)[[2, 2, 2]], np.array([0, 0, 1])))
def test_metrics_are_scikit_learns(case):
    probs, targets = case
    expected = by_scikit_learn(probs, targets) | {"ece": ece_by_hand(probs, targets)}
    assert score(probs, targets) == pytest.approx(expected, **exact)


@pytest.mark.parametrize("k", [3, 10])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_averages_are_scikit_learns(k, dtype):
    """Where all classes are present they are ours, in log_loss but for rows that sum to 1 + 1e-7."""
    random = np.random.default_rng(k)
    probs, targets = softmax(random.normal(size=(500, k)).round(1)).astype(dtype), np.arange(500) % k
    ours, wide = score(probs, targets), probs.astype(np.float64)
    ranked = theirs.roc_auc_score(targets, probs, multi_class="ovr", average="macro")
    assert ours["roc_auc"] == pytest.approx(ranked, **exact)
    f1 = theirs.f1_score(targets, probs.argmax(axis=1), average="macro")
    assert ours["macro_f1"] == pytest.approx(f1, **exact)
    surprise = theirs.log_loss(targets, wide / wide.sum(axis=1, keepdims=True))
    assert ours["log_loss"] == pytest.approx(surprise, rel=1e-6)


@pytest.mark.parametrize("k", [2, 4])
def test_brier_is_scikit_learns(k):
    random = np.random.default_rng(k)
    probs, targets = softmax(random.normal(size=(300, k))), random.integers(0, k, 300)
    try:
        expected = theirs.brier_score_loss(targets, probs, scale_by_half=False, labels=list(range(k)))
    except TypeError:
        pytest.skip("before scikit-learn 1.7 brier_score_loss knew two classes only")
    assert score(probs, targets)["brier"] == pytest.approx(expected, **exact)


@given(scored(), st.randoms(use_true_random=False))
def test_metrics_ignore_the_order_of_rows(case, random):
    probs, targets = case
    rows = np.array(random.sample(range(len(targets)), len(targets)))
    assert score(probs[rows], targets[rows]) == pytest.approx(score(probs, targets), **exact)


@given(scored(), st.integers(0, 2**32 - 1))
def test_metric_of_drawn_rows(case, seed):
    """What the bootstrap does: look once, draw rows of what was seen."""
    probs, targets = case
    rows = np.random.default_rng(seed).integers(0, len(targets), len(targets))
    names = [*metrics.names(), "roc_auc:nevus", "roc_auc+kappa", "roc_auc:nevus+roc_auc+accuracy", "ece+log_loss"]
    for metric in (find(name, CLASSES) for name in names if "nevus" not in name or probs.shape[1] > 2):
        drawn = metric.summary(metric.view(probs, targets)[rows], targets[rows])
        assert drawn == pytest.approx(metric(probs[rows], targets[rows]), nan_ok=True, **exact)


@given(scored())
def test_mean_of_row_scores_is_the_metric(case):
    probs, targets = case
    have = {name for name in metrics.names() if metrics.get(name).rows}
    assert have == {"accuracy", "log_loss", "brier"}
    for name in (*have, "log_loss+brier"):
        metric = find(name, CLASSES)
        values = metric.rows(metric.view(probs, targets), targets)
        assert (values.shape, values.dtype) == (targets.shape, np.float64)
        assert values.mean() == pytest.approx(metric(probs, targets), **exact)
    assert find("accuracy+kappa", CLASSES).rows is None


@given(scored(), st.integers(1, 3))
def test_absent_class_changes_no_metric(case, more):
    probs, targets = case
    wider = np.hstack([probs, np.zeros((len(probs), more), probs.dtype)])
    assert score(wider, targets) == pytest.approx(score(probs, targets), **exact)


@given(scored())
def test_roc_auc_of_one_class_against_the_rest(case):
    probs, targets = case
    expected = areas(probs, targets)
    for c, name in enumerate(CLASSES[: probs.shape[1]]):
        assert find(f"roc_auc:{name}", CLASSES)(probs, targets) == pytest.approx(
            expected.get(c, math.nan), nan_ok=True, **exact
        )


def test_ties_in_float32_are_ties():
    """Told apart in float64, one in the files: half a pair each."""
    near = np.array([0.3, 0.3 + 1e-12, 0.3, 0.3 + 1e-12])
    probs, targets = np.column_stack([1 - near, near]), np.array([0, 1, 0, 1])
    assert find("roc_auc:yes", ["no", "yes"])(probs, targets) == 1
    assert find("roc_auc:yes", ["no", "yes"])(probs.astype(np.float32), targets) == 0.5


def test_roc_auc_has_the_same_bits_for_any_order_of_rows():
    random = np.random.default_rng(0)
    probs, targets = softmax(random.normal(size=(999, 7))).astype(np.float32), random.integers(0, 7, 999)
    rows = random.permutation(999)
    assert score(probs[rows], targets[rows])["roc_auc"] == score(probs, targets)["roc_auc"]


def test_rows_of_one_class_leave_roc_auc_undefined():
    probs, targets = np.array([[0.9, 0.1], [0.8, 0.2]], np.float32), np.array([0, 0])
    assert "roc_auc" not in score(probs, targets)
    for name in ("roc_auc", "roc_auc:a", "roc_auc:b", "roc_auc:a+roc_auc:b"):
        assert math.isnan(find(name, ["a", "b"])(probs, targets))
    assert score(probs, targets)["kappa"] == 0
    assert score(probs[:, ::-1], targets)["kappa"] == 0
    assert score(probs, targets)["balanced_accuracy"] == 1


def test_ties_go_to_the_lower_class():
    probs = np.array([[0.25, 0.375, 0.375], [0.5, 0.5, 0.0]])
    assert labels(probs).tolist() == [1, 0]


def test_log_loss_of_probability_zero_is_finite():
    assert metrics.get("log_loss")(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-math.log(1e-15))


def test_ece_bins_include_their_upper_end():
    """0.8 is the end of the twelfth bin of fifteen and makes up there for a miss; 0.81 is alone."""
    probs, targets = np.array([[0.8, 0.2], [0.79, 0.21], [0.81, 0.19]]), np.array([0, 1, 0])
    assert metrics.get("ece")(probs, targets) == pytest.approx(((0.79 - 0.2) + 0.19) / 3)


def test_bootstrap_draws_are_quick():
    random = np.random.default_rng(0)
    probs, targets = softmax(random.normal(size=(5000, 10))).astype(np.float32), random.integers(0, 10, 5000)
    view, started = metrics.get("roc_auc").view(probs, targets), time.process_time()
    for _ in range(1000):
        rows = random.integers(0, 5000, 5000)
        metrics.get("roc_auc").summary(view[rows], targets[rows])
    assert time.process_time() - started < 4  # 0.4 s measured on one core
