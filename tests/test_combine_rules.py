"""Rules: checked by hand, the same for one row and a thousand, whatever the layout in memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.combine.arrays import fixed_order
from ensemble.combine.calibration import apply_temperature, fit_temperature
from ensemble.combine.rules import normalised, rules, stored_weights
from ensemble.core.errors import RecipeError
from ensemble.metrics import metrics


def stack(m, n, k, seed):
    random = np.random.default_rng(seed)
    probs = random.dirichlet(np.ones(k), (m, n)).astype(np.float32)
    return probs, random.integers(0, k, n)


def test_accuracy_weights_by_hand():
    # members right on 3, 2 and 1 of four rows
    targets = np.array([0, 0, 0, 0])
    right, wrong = [0.75, 0.25], [0.125, 0.875]
    probs = np.array([[right] * hits + [wrong] * (4 - hits) for hits in (3, 2, 1)], np.float32)
    params = rules.get("accuracy").fit(probs, targets)
    assert params["weights"].tolist() == [3 / 6, 2 / 6, 1 / 6]
    mixed = rules.get("accuracy").apply(params, probs)
    assert mixed[1] == pytest.approx([(5 * 0.75 + 0.125) / 6, (5 * 0.25 + 0.875) / 6], abs=1e-15)


def test_accuracy_of_members_that_are_always_wrong_is_the_plain_mean():
    probs = np.array([[[0.1, 0.9]], [[0.2, 0.8]]], np.float32)
    assert rules.get("accuracy").fit(probs, np.array([0]))["weights"].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("name", [name for name in rules.names() if name != "auto"])
@settings(max_examples=25, deadline=None)
@given(m=st.integers(1, 5), n=st.integers(1, 40), k=st.integers(2, 20), seed=st.integers(0, 99))
def test_a_rule_works_row_by_row(name, m, n, k, seed):
    row_by_row(name, m, n, k, seed)


def test_the_winner_of_the_tournament_works_row_by_row():
    row_by_row("auto", 3, 30, 4, 0)


def row_by_row(name, m, n, k, seed):
    probs, targets = stack(m, n, k, seed)
    rule = rules.get(name)
    params = rule.fit(probs, targets)
    together = rule.apply(params, probs)
    alone = np.concatenate([rule.apply(params, probs[:, i : i + 1]) for i in range(n)])
    strided = rule.apply(params, np.asfortranarray(probs))
    assert together.dtype == np.float64
    assert together.tobytes() == alone.tobytes() == np.ascontiguousarray(strided).tobytes()
    assert np.abs(together.sum(axis=1) - 1).max() < 1e-12


@given(n=st.integers(1, 40), k=st.integers(2, 20), seed=st.integers(0, 99), temperature=st.floats(0.05, 20))
def test_a_temperature_works_row_by_row_and_keeps_the_order(n, k, seed, temperature):
    probs = stack(1, n, k, seed)[0][0].astype(np.float64)
    together = apply_temperature(probs, temperature)
    alone = np.concatenate([apply_temperature(probs[i : i + 1], temperature) for i in range(n)])
    assert together.tobytes() == alone.tobytes()
    assert np.abs(together.sum(axis=1) - 1).max() < 1e-12
    order = np.argsort(probs, axis=1)
    assert (np.diff(np.take_along_axis(together, order, axis=1), axis=1) >= 0).all()


@given(seed=st.integers(0, 50), true=st.floats(0.2, 5))
def test_the_fitted_temperature_is_the_best_on_a_fine_grid(seed, true):
    probs, targets = stack(1, 200, 4, seed)
    probs = apply_temperature(probs[0].astype(np.float64), true)
    log_loss = metrics.get("log_loss")
    result = log_loss(apply_temperature(probs, fit_temperature(probs, targets)), targets)
    assert result <= min(log_loss(apply_temperature(probs, t), targets) for t in np.geomspace(0.05, 20, 60)) + 1e-6


def test_temperature_is_found_again():
    random = np.random.default_rng(1)
    honest = random.dirichlet(np.full(3, 0.5), 20_000)
    targets = (honest.cumsum(axis=1) > random.random((20_000, 1))).argmax(axis=1)
    assert fit_temperature(apply_temperature(honest, 0.5), targets) == pytest.approx(2, rel=0.05)


def test_a_rule_without_weights_says_so():
    assert stored_weights({"coefficients": np.zeros(3)}) is None


def test_weights_for_other_members_are_refused():
    with pytest.raises(ValueError, match="2 members found, 1 expected by the rule uniform"):
        rules.get("uniform").apply({"weights": np.array([1.0])}, np.zeros((2, 3, 4)))


def test_normalised_sums_from_the_first_column_on():
    rows = np.array([[1.0, 2.0**-53, 2.0**-53]])  # pairwise from the end would reach 1 + 2**-52
    assert normalised(rows)[0, 0] == 1.0


def test_an_unknown_rule_lists_the_known():
    with pytest.raises(RecipeError, match=r"unknown combining rule 'logits'; did you mean 'logit-mean'"):
        rules.get("logits")


def test_a_tie_of_orders_is_settled_by_content():
    natural, plain, odd = (np.array(names) for names in (["2", "10"], ["10", "2"], ["b", "a"]))
    for orders, first in (((natural, plain), natural), ((odd, odd[::-1]), odd[::-1])):
        for several in (orders, orders[::-1]):
            assert fixed_order(several).tolist() == first.tolist()
    x, y = np.array(["b", "c", "a"]), np.array(["c", "a", "b"])
    assert fixed_order([x, y]).tolist() == fixed_order([y, x]).tolist() == ["b", "c", "a"]
