"""Names of metrics: sums, one class, mistakes, directions."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from helpers.class_names import CLASSES
from helpers.synthetic import softmax
from sklearn import metrics as theirs

from ensemble.core.errors import RecipeError
from ensemble.metrics import absent, check_name, find, metrics, score


def test_sum_of_metrics_is_a_plain_mean_of_defined_ones():
    random = np.random.default_rng(0)
    probs, targets = softmax(random.normal(size=(60, 3))), np.arange(60) % 2
    first, second = (find(f"roc_auc:{name}", CLASSES)(probs, targets) for name in CLASSES[:2])
    both = find("roc_auc:melanoma+roc_auc:seborrheic_keratosis", CLASSES)
    assert both(probs, targets) == pytest.approx((first + second) / 2)
    assert find("roc_auc:melanoma+roc_auc:nevus", CLASSES)(probs, targets) == pytest.approx(first)
    assert find("accuracy+kappa", ())(probs, targets) == pytest.approx(
        (score(probs, targets)["accuracy"] + score(probs, targets)["kappa"]) / 2
    )


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("roc_auc:a:b", ["a:b", "a"]),
        ("roc_auc:a+b", ["a", "a+b"]),
        ("roc_auc:a+kappas", ["a", "a+kappas"]),
        ("roc_auc:a+b:c", ["a", "a+b:c"]),
        ("roc_auc:roc_auc", ["no", "roc_auc"]),
    ],
)
def test_class_names_may_hold_separators(name, classes):
    probs, targets = softmax(np.random.default_rng(0).normal(size=(40, 2))), np.arange(40) % 2
    column = classes.index(name.removeprefix("roc_auc:"))
    metric = find(name, np.array(classes))
    assert metric.name == name
    assert metric(probs, targets) == pytest.approx(theirs.roc_auc_score(targets == column, probs[:, column]))
    check_name(name)
    joined = find(f"accuracy+{name}+kappa", classes)
    parts = [find(part, classes)(probs, targets) for part in ("accuracy", name, "kappa")]
    assert joined(probs, targets) == pytest.approx(sum(parts) / 3)


WRONG = [
    ("acuracy", "unknown metric 'acuracy'; did you mean 'accuracy'"),
    ("", "a metric is missing beside a '+'"),
    ("accuracy+", "a metric is missing beside a '+'"),
    ("accuracy+roc_acu", "unknown metric 'roc_acu'; did you mean 'roc_auc'"),
    ("roc_acu:melanoma", "unknown metric 'roc_acu'; did you mean 'roc_auc'"),
    ("accuracy:melanoma", "accuracy has no form for one class; type 'accuracy' or 'roc_auc:<class>'"),
    ("roc_auc:", "names no class; type 'roc_auc' or 'roc_auc:<class>'"),
    ("roc_auc:+kappa", "names no class; type 'roc_auc' or 'roc_auc:<class>'"),
    ("accuracy+log_loss", "more is better for 'accuracy', less for 'log_loss'"),
]


@pytest.mark.parametrize(("name", "message"), WRONG)
def test_wrong_metric_name_suggests_another(name, message):
    for look_up in (check_name, lambda name: find(name, CLASSES)):
        with pytest.raises(RecipeError) as result:
            look_up(name)
        assert message in str(result.value)


def test_unknown_class_suggests_the_nearest():
    check_name("roc_auc:melanomas")
    with pytest.raises(RecipeError, match="unknown class 'melanomas'; did you mean 'melanoma'"):
        find("roc_auc:melanomas", CLASSES)
    with pytest.raises(RecipeError, match="unknown class 'melanomas'"):
        find("kappa+roc_auc:melanomas", CLASSES)


def test_metric_that_needs_classes_says_so():
    for look_up in (metrics.get, lambda name: find(name, [])):
        with pytest.raises(RecipeError, match="class names of a data set, and there are none here; type 'roc_auc'"):
            look_up("roc_auc:melanoma")


def test_plain_metric_names():
    for name in metrics.names():
        check_name(name)
        assert find(name, CLASSES) is find(name, ()) is metrics.get(name)


def test_unknown_metric_suggests_the_nearest():
    with pytest.raises(RecipeError, match="did you mean 'accuracy'"):
        metrics.get("acuracy")


def test_metric_directions():
    lower = {name for name in metrics.names() if not metrics.get(name).higher}
    assert lower == {"log_loss", "brier", "ece"}
    assert not find("brier+ece", ()).higher
    assert find("roc_auc:a+kappa", ["a", "b"]).higher


def test_no_rows_have_no_scores():
    assert score(np.zeros((0, 3)), np.zeros(0, np.int64)) == {}


def test_absent_classes_are_named():
    assert absent(np.array([0, 2, -1, 2]), np.array(["cat", "10", "dog", "2"])) == ["10", "2"]
    assert absent(np.array([1, 0]), ["cat", "dog"]) == []
    assert absent(np.array([], np.int64), ["cat", "dog"]) == ["cat", "dog"]


def test_scoring_imports_neither_scikit_learn_nor_scipy():
    code = (
        "import sys, numpy as np; from ensemble.metrics import find, score;"
        "score(np.eye(3), np.arange(3)); find('roc_auc:a+kappa', ['a', 'b', 'c'])(np.eye(3), np.arange(3));"
        "print(sorted({'sklearn', 'scipy', 'pandas', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
