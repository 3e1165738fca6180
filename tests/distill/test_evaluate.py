"""What a student keeps of the gain of its teacher."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.fake_runs import predictions

from ensemble.distill.evaluate import ratio_interval, retained_gain
from ensemble.metrics import find

CLASSES = ["a", "b", "c"]


def scored(skill: float, seed: int, n: int = 600) -> np.ndarray:
    return predictions(n, seed, skill=skill).probs


TARGETS = predictions(600, 0).targets


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "roc_auc"])
def test_retained_gain_is_1_for_the_ensemble_and_0_for_the_baseline(metric: str) -> None:
    ensemble, baseline = scored(0.9, 1), scored(0.5, 2)
    everything = retained_gain(find(metric, CLASSES), ensemble, ensemble, baseline, TARGETS, None)
    nothing = retained_gain(find(metric, CLASSES), ensemble, baseline, baseline, TARGETS, None)
    assert (everything.share.value, nothing.share.value) == (pytest.approx(1), pytest.approx(0))
    assert everything.gain.value > 0  # an improvement, whatever the metric's direction
    assert everything.share.low == pytest.approx(1, abs=1e-6) and everything.share.high == pytest.approx(
        1, abs=1e-6
    )
    half = retained_gain(find(metric, CLASSES), ensemble, (ensemble + baseline) / 2, baseline, TARGETS, None)
    assert half.share is not None and half.share.low is not None and half.share.high is not None
    assert half.share.low < half.share.value < half.share.high
    assert f"keeps {100 * half.share.value:.0f} %" in half.sentences[0]
    other = retained_gain(find(metric, CLASSES), ensemble, ensemble, baseline, TARGETS, None, optimistic=True)
    assert "keeps at most 100 %" in other.sentences[0] and other.sentences[1].startswith("Student, flattered")


def test_retained_gain_of_noise_has_no_interval() -> None:
    baseline, ensemble = scored(0.7, 1), scored(0.7, 1)
    wrong = np.flatnonzero(baseline.argmax(1) != TARGETS)[:2]
    ensemble[wrong] = np.eye(3)[TARGETS[wrong]]
    result = retained_gain(find("accuracy", CLASSES), ensemble, scored(0.7, 3), baseline, TARGETS, None)
    assert result.share is not None and result.share.low is None and result.share.high is None
    assert "could be noise" in result.sentences[0]
    worse = retained_gain(find("accuracy", CLASSES), baseline, baseline, ensemble, TARGETS, None)
    assert worse.share is None
    assert "no gain to keep" in worse.sentences[0]
    json.dumps(worse.facts(), allow_nan=False)


def test_groups_widen_the_interval_of_the_retained_gain() -> None:
    rows = np.repeat(np.arange(60), 10)  # each image ten times
    ensemble, student, baseline = (scored(skill, seed, 60)[rows] for skill, seed in ((0.9, 1), (0.7, 2), (0.4, 3)))
    targets, names = predictions(60, 0).targets[rows], np.array([f"g{row}" for row in rows])
    alone = retained_gain(find("accuracy", CLASSES), ensemble, student, baseline, targets, None)
    grouped = retained_gain(find("accuracy", CLASSES), ensemble, student, baseline, targets, names)
    assert grouped.share.value == alone.share.value
    assert grouped.share.high - grouped.share.low > 2 * (alone.share.high - alone.share.low)


def test_interval_of_the_retained_gain_covers_the_truth() -> None:
    random = np.random.default_rng(0)
    spread = np.array([[1.0, 0.6], [0.6, 1.2]])
    draws = random.multivariate_normal([2.0, 5.0], spread, 4000)
    result = [ratio_interval(above, below, spread, 1.96) for above, below in draws]
    held = [item is None or item[0] <= 0.4 <= item[1] for item in result]
    assert 0.94 <= np.mean(held) <= 0.96
    assert ratio_interval(1.0, 1.0, np.eye(2), 1.96) is None  # what is divided by may be nothing
