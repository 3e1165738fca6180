"""`Combiner`, an estimator of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ensemble as ens
from ensemble.combine.rules import rules


@st.composite
def stacks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    m, n, k = draw(st.integers(1, 4)), draw(st.integers(8, 30)), draw(st.integers(2, 4))
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    targets = random.integers(0, k, n)
    probs = random.random((m, n, k)) + np.eye(k)[targets]
    return probs / probs.sum(axis=2, keepdims=True), targets


@given(stacks(), st.sampled_from([name for name in rules.names() if name != "auto"]))
def test_combiner_gives_what_its_rule_gives(stack: tuple[np.ndarray, np.ndarray], name: str) -> None:
    probs, targets = stack
    combiner = ens.Combiner(rule=name, calibrate=False).fit(probs, targets)
    rule = rules.get(name)
    expected = rule.apply(rule.fit(probs, targets), probs)
    assert np.array_equal(combiner.predict_proba(probs), expected)
    assert np.array_equal(combiner.predict(probs), expected.argmax(axis=1))
    assert np.allclose(combiner.predict_proba(probs).sum(axis=1), 1)
    # row by row
    assert np.array_equal(combiner.predict_proba(probs[:, :1]), expected[:1])


def test_combiner_is_a_scikit_learn_estimator() -> None:
    from sklearn.base import clone

    combiner = clone(ens.Combiner(rule="greedy", metric="log_loss"))
    assert combiner.get_params() == {"rule": "greedy", "metric": "log_loss", "calibrate": None}
    probs = np.array([[[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]], [[0.6, 0.4], [0.2, 0.8], [0.5, 0.5]]])
    combiner.fit(probs, [0, 1, -1])  # the third is not known
    assert combiner.weights_ is not None
    assert combiner.weights_.sum() == pytest.approx(1)
    assert combiner.score(probs, [0, 1, -1]) == 1.0
    with pytest.raises(ValueError, match="unknown parameter 'rul'"):
        combiner.set_params(rul="x")


@pytest.mark.parametrize(
    ("probs", "y", "message"),
    [
        (np.ones((2, 3)), [0, 1, 0], "expected"),
        (np.ones((2, 3, 2)), [0, 1, 0], "not probabilities"),
        (np.full((2, 3, 2), 0.5), [0, 1], r"integers \(3,\) expected"),
        (np.full((2, 3, 2), 0.5), [0, 1, 2], "outside -1 to 1"),
        (np.full((2, 3, 2), 0.5), [-1, -1, -1], "no known target"),
        (np.full((2, 3, 2), np.nan), [0, 1, 0], "not probabilities"),
        (np.full((2, 3, 2), 0.5), [0.0, 1.0, 0.0], "integers"),
    ],
)
def test_combiner_refuses(probs: np.ndarray, y: Any, message: str) -> None:
    with pytest.raises(ens.DataError, match=message):
        ens.Combiner().fit(probs, y)


def test_combiner_refuses_other_members_and_to_predict_unfitted() -> None:
    probs = np.full((2, 3, 2), 0.5)
    with pytest.raises(ens.DataError, match="not fitted"):
        ens.Combiner().predict(probs)
    combiner = ens.Combiner().fit(probs, [0, 1, 0])
    with pytest.raises(ens.DataError, match="1 members and 2 classes, 2 and 2 expected"):
        combiner.predict(probs[:1])
