"""Temperature scaling."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.synthetic import stack
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.combine.calibration import apply_temperature, calibrated, fit_temperature, mean_coverage
from ensemble.metrics import metrics


@given(n=st.integers(1, 40), k=st.integers(2, 20), seed=st.integers(0, 99), temperature=st.floats(0.05, 20))
def test_temperature_works_row_by_row_and_keeps_the_order(n, k, seed, temperature):
    probs = stack(1, n, k, seed)[0][0].astype(np.float64)
    together = apply_temperature(probs, temperature)
    alone = np.concatenate([apply_temperature(probs[i : i + 1], temperature) for i in range(n)])
    assert together.tobytes() == alone.tobytes()
    assert np.abs(together.sum(axis=1) - 1).max() < 1e-12
    order = np.argsort(probs, axis=1)
    assert (np.diff(np.take_along_axis(together, order, axis=1), axis=1) >= 0).all()


@given(seed=st.integers(0, 50), true=st.floats(0.2, 5))
def test_fitted_temperature_is_the_best_on_a_grid(seed, true):
    probs, targets = stack(1, 200, 4, seed)
    probs = apply_temperature(probs[0].astype(np.float64), true)
    log_loss = metrics.get("log_loss")
    result = log_loss(apply_temperature(probs, fit_temperature(probs, targets)), targets)
    assert result <= min(log_loss(apply_temperature(probs, t), targets) for t in np.geomspace(0.05, 20, 60)) + 1e-6


def test_fitted_temperature_recovers_the_true_one():
    random = np.random.default_rng(1)
    honest = random.dirichlet(np.full(3, 0.5), 20_000)
    targets = (honest.cumsum(axis=1) > random.random((20_000, 1))).argmax(axis=1)
    assert fit_temperature(apply_temperature(honest, 0.5), targets) == pytest.approx(2, rel=0.05)


@given(st.integers(2, 10), st.floats(0.3, 0.98), st.sampled_from([0.8, 0.9, 0.95]), st.integers(0, 99))
@settings(max_examples=25)
def test_conformal_sets_cover_new_rows(k: int, skill: float, coverage: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    targets = random.integers(0, k, 4000)
    logits = random.normal(size=(4000, k)) + 4 * skill * np.eye(k)[targets]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert mean_coverage(probs, targets, coverage) == pytest.approx(coverage, abs=0.01)
    sets = calibrated(probs[:2000], targets[:2000], coverage).sets(probs[2000:])
    assert sets[np.arange(2000), targets[2000:]].mean() == pytest.approx(coverage, abs=0.04)


def test_conformal_coverage_of_few_rows() -> None:
    probs, targets = np.array([[0.9, 0.1]] * 8), np.zeros(8, int)
    assert calibrated(probs, targets, 0.9).bound == np.inf  # the ninth row of nine is not there
    assert calibrated(probs, targets, 0.9).sets(probs).all()
    assert calibrated(probs, targets, 0.8).sets(probs)[:, 1].sum() == 0
    assert calibrated(probs, targets, 1.0).bound == np.inf
    nine = np.linspace(0.1, 0.9, 9)
    assert calibrated(np.stack([nine, 1 - nine], 1), np.zeros(9, int), 0.9).bound == pytest.approx(0.9)
