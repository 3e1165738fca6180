"""Entropy and disagreement of members."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy as scipys_entropy

from ensemble.metrics.classification import disagreement, entropy


@given(st.integers(2, 6), st.integers(1, 5), st.integers(0, 999))
@settings(max_examples=50)
def test_disagreement_is_the_mutual_information(k: int, m: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    probs = random.dirichlet(np.full(k, 0.3), (m, 7)).astype(np.float32)
    weights = random.dirichlet(np.ones(m))
    assert entropy(probs[0]) == pytest.approx(scipys_entropy(probs[0].astype(float), axis=1), abs=1e-6)
    # the mean divergence of each member from their mean (Lakshminarayanan et al. 2017)
    mean = np.einsum("m,mnk->nk", weights, probs.astype(float))
    apart = [scipys_entropy(item.astype(float) + 1e-300, mean + 1e-300, axis=1) for item in probs]
    assert disagreement(probs, weights) == pytest.approx(np.einsum("m,mn->n", weights, apart), abs=1e-5)
    assert disagreement(probs[:1].repeat(m, 0), weights) == pytest.approx(0, abs=1e-6)
    alone = np.eye(m)[0]
    assert disagreement(probs, alone) == pytest.approx(0, abs=1e-6)


def test_entropy_of_certainty_is_zero() -> None:
    assert entropy(np.array([[1.0, 0.0], [0.5, 0.5]])) == pytest.approx([0, np.log(2)])
