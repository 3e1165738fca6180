"""Weights on the simplex: the optimum, whatever method computes it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.combine.arrays import mixture, quadratic

sizes = {"m": st.integers(1, 9), "seed": st.integers(0, 10_000)}


def positive(m, seed):
    random = np.random.default_rng(seed)
    root = random.normal(size=(m, m + 2))
    return root @ root.T + 1e-6 * np.eye(m), random.normal(size=m)


@given(**sizes)
def test_quadratic_is_at_its_minimum(m, seed):
    matrix, vector = positive(m, seed)
    weights = quadratic(matrix, vector)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    slope = matrix @ weights - vector
    # the conditions of Karush, Kuhn and Tucker: one slope where there is weight, no lower one elsewhere
    inside = weights > 1e-9
    assert np.ptp(slope[inside]) <= 1e-6 * (1 + np.abs(matrix).max())
    assert slope.min() >= slope[inside].min() - 1e-6 * (1 + np.abs(matrix).max())


def expected_by_em(likelihoods, steps=20_000):
    weights = np.full(likelihoods.shape[1], 1 / likelihoods.shape[1])
    for _ in range(steps):
        weights = weights * (likelihoods / (likelihoods @ weights)[:, None]).mean(axis=0)
    return weights


@settings(max_examples=20)
@given(m=st.integers(1, 6), n=st.integers(3, 60), seed=st.integers(0, 10_000))
def test_mixture_is_as_likely_as_by_em(m, n, seed):
    likelihoods = np.random.default_rng(seed).uniform(1e-6, 1, (n, m)) ** 2
    ours, theirs = mixture(likelihoods), expected_by_em(likelihoods, 3_000)
    assert ours.min() >= 0
    assert ours.sum() == pytest.approx(1, abs=1e-12)
    assert np.log(likelihoods @ ours).mean() >= np.log(likelihoods @ theirs).mean() - 1e-7


def test_equal_members_share_weight_evenly():
    likelihoods = np.random.default_rng(0).uniform(0.1, 1, (200, 3))
    likelihoods[:, 1] = likelihoods[:, 0]
    weights = mixture(likelihoods)
    assert weights[0] == pytest.approx(weights[1], abs=1e-4)


def test_mixture_survives_a_confident_error():
    likelihoods = np.full((50, 2), 0.9)
    likelihoods[0, 0] = 1e-15
    assert mixture(likelihoods)[1] > 0.5
