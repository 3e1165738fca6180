"""Greedy selection: what a climb of twenty plain lines finds, sooner; never worse than the best member it saw."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.combine.greedy import greedy_weights, label_scorers, scorers, select
from ensemble.combine.greedy.label_scorers import ragged
from ensemble.metrics import find, metrics

NAMES = [*metrics.names(), "roc_auc:b", "accuracy+kappa"]


FEW = settings(max_examples=30)


KNOWN = ["accuracy", "balanced_accuracy", "macro_f1", "kappa", "log_loss", "brier"]


def metric_of(name):
    return find(name, "abcdefgh")


def naive(probs, targets, metric, rounds):
    """One climb with all members, told as the definition tells it."""

    def value(members):
        total = np.zeros(probs.shape[1:])
        for member in members:
            total += probs[member]
        score = metric(total / len(members), targets)
        return -np.inf if np.isnan(score) else score if metric.higher else -score

    def earliest_best(scores):
        return next(i for i, score in enumerate(scores) if score >= max(scores) - 1e-12)

    own = [value([j]) for j in range(len(probs))]
    if np.isneginf(own).all():
        return np.full(len(probs), 1 / len(probs))
    order = sorted(range(len(probs)), key=lambda j: -round(own[j], 12))
    prefixes = [value(order[: i + 1]) for i in range(min(rounds, len(probs)))]
    climbs = []
    for start in (earliest_best(prefixes) + 1, 1):
        sequence, scores = order[:start], prefixes[:start]
        for _ in range(rounds):
            tried = {j: value([*sequence, j]) for j in order}
            tied = [j for j in order if tried[j] >= max(tried.values()) - 1e-12]
            chosen = next((j for j in tied if j in sequence), tied[0])
            sequence, scores = [*sequence, chosen], [*scores, tried[chosen]]
        best = earliest_best(scores)
        climbs.append((scores[best], sequence[: best + 1]))
    best = climbs[earliest_best([score for score, _ in climbs])][1]
    return np.bincount(best, minlength=len(probs)) / len(best)


@st.composite
def problems(draw, ties=None):
    """A small stack: sixteenths full of exact ties, one-hot rows, equal and constant members; or any numbers."""
    m, n, k = draw(st.integers(1, 7)), draw(st.integers(1, 40)), draw(st.integers(2, 6))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    targets = random.integers(0, draw(st.integers(1, k)), n)  # often without some classes
    if draw(st.booleans()) if ties is None else ties:
        parts = draw(st.sampled_from([1, 2, 4, 16]))  # one part: one-hot rows
        probs = (random.multinomial(parts, np.full(k, 1 / k), (m, n)) / parts).astype(np.float32)
    else:
        logits = random.normal(size=(m, n, k)) + draw(st.integers(0, 3)) * np.eye(k)[targets]
        probs = (np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)).astype(np.float32)
    if draw(st.booleans()):
        probs[m // 2] = probs[m // 2, :1]
    if draw(st.booleans()):
        probs[-1] = probs[0]
    return probs, targets


@pytest.mark.parametrize(("small", "together"), [(0, 0), (label_scorers.SMALL, 0), (0, select.TOGETHER)])
@pytest.mark.parametrize("name", NAMES)
@FEW
@given(problem=problems(), rounds=st.integers(1, 12))
def test_greedy_is_the_naive_climb(name, small, together, problem, rounds):
    probs, targets = problem
    metric = metric_of(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_scorers, "SMALL", small)
        patch.setattr(select, "TOGETHER", together)
        result = greedy_weights(probs, targets, metric, rounds=rounds, bags=0)
    assert result == pytest.approx(naive(probs, targets, metric, rounds), abs=1e-12)


@pytest.mark.parametrize("name", KNOWN)
@FEW
@given(problem=problems())
def test_greedy_blocks_and_copies_change_nothing(name, problem):
    # one number a block, cells read where they are, and none left out for being few
    whole = greedy_weights(*problem, metrics.get(name), bags=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_scorers, "COPY", -1)
        patch.setattr(label_scorers, "BLOCK", 1)
        patch.setattr(label_scorers, "SMALL", 0)
        patch.setattr(scorers, "BLOCK", 1)
        patch.setattr(select, "TOGETHER", 0)
        assert greedy_weights(*problem, metrics.get(name), bags=3).tobytes() == whole.tobytes()


@pytest.mark.parametrize("name", NAMES)
@FEW
@given(problem=problems())
def test_greedy_is_no_worse_than_any_member(name, problem):
    probs, targets = problem
    metric = metric_of(name)

    def value(mean):
        score = metric(mean, targets)
        return -np.inf if np.isnan(score) else score if metric.higher else -score

    weights = greedy_weights(probs, targets, metric, rounds=8, bags=0)
    # the roundings of weights may break a tie the other way
    result = value(np.einsum("m,mnk->nk", weights, probs.astype(np.float64)).round(12))
    own = [value(member) for member in probs]
    if not np.isneginf(own).all():
        assert result >= max(own) - 1e-9


@pytest.mark.parametrize("name", NAMES)
@FEW
@given(problem=problems(), bags=st.sampled_from([None, 0, 1, 4]))
def test_greedy_weights_sum_to_one_and_repeat_bit_for_bit(name, problem, bags):
    probs, targets = problem
    before = probs.copy()
    weights = greedy_weights(probs, targets, metric_of(name), rounds=5, bags=bags)
    assert weights.shape == (len(probs),)
    assert weights.dtype == np.float64
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    again = greedy_weights(np.asfortranarray(probs), targets, metric_of(name), rounds=5, bags=bags)
    assert again.tobytes() == weights.tobytes()
    assert probs.tobytes() == before.tobytes()


@pytest.mark.parametrize("name", NAMES)
@FEW
@given(problem=problems(ties=False), seed=st.integers(0, 99), bags=st.sampled_from([0, 3]))
def test_greedy_ignores_the_order_of_rows(name, problem, seed, bags):
    probs, targets = problem
    rows = np.random.default_rng(seed).permutation(len(targets))
    weights = greedy_weights(probs, targets, metric_of(name), bags=bags, rounds=8)
    moved = greedy_weights(probs[:, rows], targets[rows], metric_of(name), bags=bags, rounds=8)
    assert moved == pytest.approx(weights, abs=1e-12)


@pytest.mark.parametrize("name", ["log_loss", "brier", "accuracy"])
@pytest.mark.parametrize("bags", [0, 5])
def test_greedy_of_permuted_members_has_permuted_weights(name, bags):
    random = np.random.default_rng(5)
    targets = random.integers(0, 4, 3001)
    logits = random.normal(size=(9, 3001, 4)) + np.linspace(1.5, 2, 9)[:, None, None] * np.eye(4)[targets]
    probs = (np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)).astype(np.float32)
    order = random.permutation(9)
    weights = greedy_weights(probs, targets, metrics.get(name), bags=bags)
    moved = greedy_weights(probs[order], targets, metrics.get(name), bags=bags)
    assert moved == pytest.approx(weights[order], abs=1e-12)
    assert np.count_nonzero(weights) > 2


def test_greedy_of_an_undefined_metric_has_equal_weights():
    probs = np.random.default_rng(0).dirichlet(np.ones(3), (4, 20)).astype(np.float32)
    weights = greedy_weights(probs, np.zeros(20, np.int64), metric_of("roc_auc:b"))
    assert weights.tolist() == [0.25] * 4


def test_greedy_tie_keeps_a_selected_member():
    # all members are right on every row, so that nothing is gained by a second one
    probs = np.full((5, 6, 2), [0.75, 0.25], np.float32)
    targets = np.zeros(6, np.int64)
    for name in KNOWN:
        assert greedy_weights(probs, targets, metrics.get(name), bags=0).tolist() == [1, 0, 0, 0, 0]


@pytest.mark.parametrize("seed, m, n", [(1046, 3, 7), (2131, 4, 6), (1852, 3, 14), (434, 5, 10)])
def test_greedy_tie_keeps_a_selected_member_before_a_better_one(seed, m, n):
    # found by search: here the other choice leads to other weights
    random = np.random.default_rng(seed)
    random.integers(3, 6), random.integers(5, 30)
    targets = random.integers(0, 3, n)
    probs = (random.multinomial(8, np.full(3, 1 / 3), (m, n)) / 8).astype(np.float32)
    accuracy = metrics.get("accuracy")
    result = greedy_weights(probs, targets, accuracy, bags=0)
    assert result == pytest.approx(naive(probs, targets, accuracy, 25), abs=1e-12)


def test_greedy_takes_a_weak_member_that_corrects_others():
    targets = np.zeros(10, np.int64)
    strong, weak = np.full((10, 2), [0.9, 0.1]), np.full((10, 2), [0.45, 0.55])
    strong[:2], weak[:2] = [0.4, 0.6], [0.95, 0.05]
    probs = np.array([weak, strong], np.float32)
    for name in ("balanced_accuracy", "macro_f1"):
        assert greedy_weights(probs, targets, metrics.get(name), bags=0)[0] > 0.1
    assert greedy_weights(probs, targets, metrics.get("accuracy"), bags=0).tolist() == [0.5, 0.5]


@FEW
@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4).filter(any), max_size=9))
def test_ragged_layers_hold_every_cell_once(mask):
    mask = np.array(mask, bool).reshape(-1, 4)
    cells = ragged(mask)
    back = np.zeros_like(mask)
    last = np.full(len(mask), -1)
    for size, layer in cells.layers():
        assert cells.row[layer].tolist() == list(range(size))
        assert (cells.column[layer] > last[:size]).all()
        last[:size] = cells.column[layer]
        back[cells.order[cells.row[layer]], cells.column[layer]] = True
    assert (back == mask).all()
