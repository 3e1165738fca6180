"""Which architecture to train next."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from helpers.pools import BRIER
from helpers.synthetic import architectures, members
from hypothesis import given
from hypothesis import strategies as st

from ensemble.combine.advice import advise, error_covariances


@given(m=st.integers(1, 5), n=st.integers(1, 40), k=st.integers(2, 4), seed=st.integers(0, 1000))
def test_error_covariances_by_hand(m, n, k, seed):
    random = np.random.default_rng(seed)
    probs, targets = random.dirichlet(np.ones(k), (m, n)).astype(np.float32), random.integers(0, k, n)
    errors = probs.astype(np.float64) - np.eye(k)[targets]
    expected = np.einsum("jnk,lnk->jl", errors, errors) / n
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ensemble.combine.advice.BLOCK", 40)
        result = error_covariances(probs, targets)
    assert result == pytest.approx(expected, abs=1e-12)
    assert np.diag(result) == pytest.approx([BRIER(item, targets) for item in probs])
    weights = random.dirichlet(np.ones(m))
    mixed = np.tensordot(weights, probs.astype(np.float64), 1)
    assert weights @ result @ weights == pytest.approx(BRIER(mixed, targets), abs=1e-6)


@pytest.mark.parametrize("odd", range(3))
def test_architecture_with_least_correlated_errors_is_advised(odd):
    shares = [0.05 if arch == odd else 0.4 for arch in range(3)]
    result = advise(*architectures([(arch, shares[arch]) for arch in range(3) for _ in range(2)]))
    best = result.ranking[0]
    assert best.arch == f"net{odd}" and not result.stop
    assert best.correlation == min(item.correlation for item in result.ranking)
    assert result.sentence == (
        f"Train another net{odd} next: its errors agree least with the others' (predicted Brier"
        f" -{100 * best.gain:.1f} %)."
    )


def test_predicted_gain_is_near_the_measured_gain():
    agreement = [(arch, 0.2) for arch in (0, 1, 2, 0, 1, 2)]
    probs, targets, archs = architectures(agreement, n=20_000, seed=3)
    result = advise(probs[:5], targets, archs[:5])
    predicted = {item.arch: item.gain for item in result.ranking}
    covariances = error_covariances(probs, targets)

    def best(count):
        weights = np.random.default_rng(0).dirichlet(np.ones(count), 40_000)
        return np.einsum("wj,jl,wl->w", weights, covariances[:count, :count], weights).min()

    assert predicted["net2"] == pytest.approx(1 - best(6) / best(5), abs=0.01)
    assert result.ranking[0].arch == "net2" and predicted["net2"] > 0.01


def test_agreeing_seeds_promise_less_than_differing_seeds():
    probs, targets = members(3, 1000, own=2.0)
    result = advise(probs[[0, 0, 1, 2]], targets, ["same", "same", "other", "other"])
    gains = {item.arch: item.gain for item in result.ranking}
    assert gains["same"] == pytest.approx(0, abs=1e-6) and gains["other"] > 0.02


def test_impossible_errors_are_not_predicted(monkeypatch):
    """The third member is the mean of the others, so one that agrees with them as it does is the same again."""
    probs, targets = members(2, 1000)
    archs, three = ["a", "b", "mean"], np.stack([*probs, (probs[0] + probs[1]) / 2])
    possible = {item.arch: item.gain for item in advise(three, targets, archs).ranking}
    monkeypatch.setattr("ensemble.combine.advice.nearest_semidefinite", lambda covariances: covariances)
    made_up = {item.arch: item.gain for item in advise(three, targets, archs).ranking}
    assert possible["mean"] < 0.9 * made_up["mean"]


def test_advice_to_stop_when_members_agree():
    result = advise(*architectures([(arch, 0.4) for arch in range(2) for _ in range(9)]))
    assert result.stop and result.ranking[0].gain < 0.01
    assert result.sentence.startswith("Another of these would change little (the best, net")
    assert result.sentence.endswith("stop, or try an architecture that is not here.")


@pytest.mark.parametrize("count", [2, 7])
def test_clones_promise_nothing(count):
    probs, targets = members(1, 200)
    result = advise(np.repeat(probs, count, axis=0), targets, ["net"] * count)
    assert result.stop and result.ranking[0].gain == pytest.approx(0, abs=1e-6)


def test_no_advice_on_one_member():
    result = advise(*members(1, 50), ["net"])
    assert (result.ranking, result.stop) == ((), False)
    assert result.sentence.startswith("One member alone says nothing")


def test_no_advice_without_errors():
    targets = np.arange(30) % 3
    result = advise(np.repeat(np.eye(3, dtype=np.float32)[targets][None], 2, axis=0), targets, ["a", "b"])
    assert result.stop and result.sentence.startswith("Stop: ")


@given(m=st.integers(2, 8), seed=st.integers(0, 300))
def test_advice_is_finite_on_random_members(m, seed):
    random = np.random.default_rng(seed)
    probs, targets = members(m, 30, seed=seed, own=random.uniform(0, 4, m), shared=random.uniform(0, 3))
    archs = [f"net{arch}" for arch in random.integers(0, m, m)]
    result = advise(probs, targets, archs)
    assert sorted(item.arch for item in result.ranking) == sorted(set(archs))
    gains = [item.gain for item in result.ranking]
    assert gains == sorted(gains, reverse=True) and all(0 <= gain < 1 for gain in gains)
    assert json.dumps(asdict(result), allow_nan=False) and result == advise(probs, targets, archs)
