"""Beside an ensemble's score: who brings what, who can go, what to train next."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble.combine.advice import Advice, advise, error_covariances
from ensemble.combine.contributions import contributions, only_right
from ensemble.combine.member_elimination import Elimination, eliminate_members
from ensemble.combine.report import Part, Report
from ensemble.core.estimate import Estimate
from ensemble.metrics import find, labels, metrics

ACCURACY, BRIER = metrics.get("accuracy"), metrics.get("brier")


def softmax(logits):
    odds = np.exp(logits)
    return (odds / odds.sum(axis=-1, keepdims=True)).astype(np.float32)


def members(m, n, k=3, seed=0, skill=1.5, shared=1.0, own=1.0):
    """float32 (m, n, k) of members whose errors agree, and targets (n,). own: a number, or one a member."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, k, n)
    noise = np.broadcast_to(own, m)[:, None, None] * random.normal(size=(m, n, k))
    return softmax(skill * np.eye(k)[targets] + shared * random.normal(size=(n, k)) + noise), targets


def architectures(agreement, n=3000, seed=0):
    """Members of the architectures 0, 1, ...: errors are a part shared by all and one by the architecture.

    agreement: for each member its architecture, and how much of its error is shared with the other ones.
    """
    random = np.random.default_rng(seed)
    targets = random.integers(0, 3, n)
    everyone, of_arch = random.normal(size=(n, 3)), random.normal(size=(10, n, 3))
    errors = [
        np.sqrt(share) * everyone + np.sqrt(0.4 - share) * of_arch[arch] + np.sqrt(0.6) * random.normal(size=(n, 3))
        for arch, share in agreement
    ]
    return (
        softmax(2.5 * np.eye(3)[targets] + 2 * np.array(errors)),
        targets,
        [f"net{arch}" for arch, _ in agreement],
    )


class Mean:
    """The plain mean without some members; remembers what it was asked."""

    def __init__(self, probs):
        self.probs, self.asked = probs, []

    def __call__(self, gone):
        self.asked.append(gone)
        return np.mean([row for j, row in enumerate(self.probs) if j not in gone], axis=0)


def brought(metric, probs, targets, groups=None):
    mean = Mean(probs)
    return contributions(metric, mean(()), mean, probs, targets, groups)


def shortened(metric, probs, targets, costs=None, groups=None):
    mean = Mean(probs)
    return eliminate_members(metric, mean(()), mean, targets, groups, costs or [None] * len(probs))


@pytest.mark.parametrize("name", ["accuracy", "log_loss", "macro_f1", "roc_auc"])
def test_gain_is_what_the_score_loses_without_the_member(name):
    probs, targets = members(4, 200, own=[0.5, 1, 2, 4])
    metric, mean = metrics.get(name), Mean(probs)
    sign = 1 if metric.higher else -1
    for j, one in enumerate(brought(metric, probs, targets)):
        assert one.gain.value == pytest.approx(sign * (metric(mean(()), targets) - metric(mean((j,)), targets)))
        assert one.gain.low <= one.gain.value <= one.gain.high
    assert json.loads(json.dumps([asdict(one) for one in brought(metric, probs, targets)], allow_nan=False))


@pytest.mark.parametrize("name", ["accuracy", "log_loss"])
def test_a_good_member_helps_and_a_broken_one_hurts(name):
    probs, targets = members(4, 2000, own=[0.1, 1, 1, 1])
    probs[3] = probs[3][::-1]
    good, *_, broken = brought(metrics.get(name), probs, targets)
    assert good.gain.low > 0 and broken.gain.high < 0


def test_a_clone_brings_nothing_to_two_that_agree():
    probs, targets = members(1, 300)
    for one in brought(metrics.get("log_loss"), np.repeat(probs, 3, axis=0), targets):
        assert one.gain.value == pytest.approx(0, abs=1e-7)
        assert one.disagreement == 0


def width(one):
    return one.gain.high - one.gain.low


def test_groups_make_a_gain_less_certain():
    probs, targets = members(3, 100)
    probs, targets = np.repeat(probs, 4, axis=1), np.repeat(targets, 4)
    groups = np.array([f"g{i // 4}" for i in range(400)])
    pairs = zip(brought(BRIER, probs, targets, groups), brought(BRIER, probs, targets), strict=True)
    assert all(width(with_groups) > 1.8 * width(one) for with_groups, one in pairs)


@given(m=st.integers(1, 6), n=st.integers(1, 30), k=st.integers(2, 5), seed=st.integers(0, 1000))
def test_disagreement_and_only_right_by_hand(m, n, k, seed):
    random = np.random.default_rng(seed)
    probs, targets = random.dirichlet(np.ones(k), (m, n)).astype(np.float32), random.integers(0, k, n)
    output = labels(probs)
    right = output == targets
    for j, one in enumerate(brought(ACCURACY, probs, targets)):
        others = [i for i in range(m) if i != j]
        differs = [np.mean(output[j] != output[i]) for i in others]
        assert one.disagreement == pytest.approx(np.mean(differs) if others else 0)
        assert only_right(right)[j] == np.sum(right[j] & ~right[others].any(axis=0))


def test_a_member_alone_has_no_gain():
    probs, targets = members(1, 30)
    (alone,) = brought(ACCURACY, probs, targets)
    assert (alone.gain, alone.disagreement) == (None, 0)
    assert only_right(labels(probs[:1]) == targets) == [np.sum(labels(probs[0]) == targets)]
    assert shortened(ACCURACY, probs, targets) is None


@pytest.mark.parametrize("name", ["log_loss", "brier"])
def test_clones_can_go(name):
    probs, targets = members(2, 500, seed=1, own=2.0, skill=2.5)
    result = shortened(metrics.get(name), probs[[0, 0, 0, 1, 1, 1]], targets, [1.0, 2.0, 3.0, 1.0, 1.0, 4.0])
    assert result.dropped in ((1, 2, 4, 5), (1, 2, 3, 5))  # of twins the slow ones go
    assert result.difference.value == pytest.approx(0, abs=1e-7)
    assert result.speedup == pytest.approx(6.0)


def test_a_broken_member_can_go_and_the_rest_is_better():
    probs, targets = members(4, 2000, own=2.0)
    probs[2] = probs[2][::-1]
    result = shortened(ACCURACY, probs, targets)
    assert 2 in result.dropped and result.difference.value > 0 and result.speedup is None


def test_members_that_all_help_stay():
    probs, targets = members(4, 4000, shared=0.0, own=2.0)
    assert shortened(ACCURACY, probs, targets) is None
    assert shortened(BRIER, probs, targets) is None


@pytest.mark.parametrize("name", ["accuracy", "brier"])
@pytest.mark.parametrize("seed", range(6))
def test_what_is_kept_is_as_good(seed, name):
    probs, targets = members(9, 1500, seed=seed, own=np.linspace(0.4, 1.5, 9), shared=2.0)
    metric, mean = metrics.get(name), Mean(probs)
    result = eliminate_members(metric, mean(()), mean, targets, None, [1.0] * 9)
    if result is None:
        return
    change = metric(mean(result.dropped), targets) - metric(mean(()), targets)
    assert result.difference.value == pytest.approx(change)
    loss = -change if metric.higher else change / metric(mean(()), targets)
    assert loss <= (0.001 if metric.higher else 0.01) + 1e-9
    assert result.difference.low <= result.difference.value <= result.difference.high
    assert result.speedup == pytest.approx(9 / (9 - len(result.dropped)))


def test_a_loss_that_is_small_but_sure_is_not_as_good():
    probs, targets = members(2, 500)
    whole, wrong = Mean(probs)(()), np.eye(3)[(targets + 1) % 3]
    rest = 0.998 * whole + 0.002 * wrong
    assert 0 < BRIER(rest, targets) - BRIER(whole, targets) < 0.01 * BRIER(whole, targets)
    assert eliminate_members(BRIER, whole, lambda gone: rest, targets, None, [1.0, 1.0]) is None


def test_gains_at_hand_save_calls_and_few_candidates_are_tried():
    probs, targets = members(30, 300, shared=2.0)
    gains = [one.gain.value for one in brought(ACCURACY, probs, targets)]
    fresh, reported = Mean(probs), Mean(probs)
    whole, costs = Mean(probs)(()), [1.0] * 30
    result = eliminate_members(ACCURACY, whole, fresh, targets, None, costs)
    assert result == eliminate_members(ACCURACY, whole, reported, targets, None, costs, gains)
    assert len(fresh.asked) - len(reported.asked) == 30
    assert len(reported.asked) <= 3 * 30


def test_what_is_said_of_a_shorter_ensemble():
    probs, targets = members(1, 50)
    twins = np.repeat(probs, 3, axis=0)
    flatters = "(picked on these very images, which flatters it a little)"
    fast = shortened(ACCURACY, twins, targets, [1.0, 1.0, 2.0])
    assert fast.sentence == f"drop these 2: +0.00 points, 4.0 times faster {flatters}"
    assert (
        shortened(ACCURACY, twins, targets, [1.0, None, 2.0]).sentence == f"drop these 2: +0.00 points {flatters}"
    )
    by_loss = shortened(BRIER, twins[:2], targets)
    assert by_loss.sentence == f"drop this one: brier +0.0000 where less is better {flatters}"


def test_a_member_without_which_no_score_exists_stays():
    probs, targets = members(3, 20, k=2)
    assert shortened(find("roc_auc:b", ["a", "b"]), probs, targets * 0) is None


@given(m=st.integers(1, 5), n=st.integers(1, 40), k=st.integers(2, 4), seed=st.integers(0, 1000))
def test_covariances_by_hand(m, n, k, seed):
    random = np.random.default_rng(seed)
    probs, targets = random.dirichlet(np.ones(k), (m, n)).astype(np.float32), random.integers(0, k, n)
    errors = probs.astype(np.float64) - np.eye(k)[targets]
    expected = np.einsum("jnk,lnk->jl", errors, errors) / n
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ensemble.combine.advice._BLOCK", 40)
        result = error_covariances(probs, targets)
    assert result == pytest.approx(expected, abs=1e-12)
    assert np.diag(result) == pytest.approx([BRIER(one, targets) for one in probs])
    weights = random.dirichlet(np.ones(m))
    mixed = np.tensordot(weights, probs.astype(np.float64), 1)
    assert weights @ result @ weights == pytest.approx(BRIER(mixed, targets), abs=1e-6)


@pytest.mark.parametrize("odd", range(3))
def test_the_architecture_whose_errors_agree_least_is_advised(odd):
    shares = [0.05 if arch == odd else 0.4 for arch in range(3)]
    result = advise(*architectures([(arch, shares[arch]) for arch in range(3) for _ in range(2)]))
    best = result.ranking[0]
    assert best.arch == f"net{odd}" and not result.stop
    assert best.correlation == min(one.correlation for one in result.ranking)
    assert result.sentence == (
        f"Train another net{odd} next: its errors agree least with the others' (predicted Brier"
        f" -{100 * best.gain:.1f} %)."
    )


def test_the_predicted_gain_is_about_what_one_more_brings():
    agreement = [(arch, 0.2) for arch in (0, 1, 2, 0, 1, 2)]
    probs, targets, archs = architectures(agreement, n=20_000, seed=3)
    result = advise(probs[:5], targets, archs[:5])
    predicted = {one.arch: one.gain for one in result.ranking}
    covariances = error_covariances(probs, targets)

    def best(count):
        weights = np.random.default_rng(0).dirichlet(np.ones(count), 40_000)
        return np.einsum("wj,jl,wl->w", weights, covariances[:count, :count], weights).min()

    assert predicted["net2"] == pytest.approx(1 - best(6) / best(5), abs=0.01)
    assert result.ranking[0].arch == "net2" and predicted["net2"] > 0.01


def test_an_architecture_whose_seeds_agree_promises_less_than_one_whose_seeds_differ():
    probs, targets = members(3, 1000, own=2.0)
    result = advise(probs[[0, 0, 1, 2]], targets, ["same", "same", "other", "other"])
    gains = {one.arch: one.gain for one in result.ranking}
    assert gains["same"] == pytest.approx(0, abs=1e-6) and gains["other"] > 0.02


def test_errors_that_no_member_can_have_are_not_counted_on(monkeypatch):
    """The third member is the mean of the others, so one that agrees with them as it does is the same again."""
    probs, targets = members(2, 1000)
    archs, three = ["a", "b", "mean"], np.stack([*probs, (probs[0] + probs[1]) / 2])
    possible = {one.arch: one.gain for one in advise(three, targets, archs).ranking}
    monkeypatch.setattr("ensemble.combine.advice._positive", lambda covariances: covariances)
    made_up = {one.arch: one.gain for one in advise(three, targets, archs).ranking}
    assert possible["mean"] < 0.9 * made_up["mean"]


def test_many_that_agree_are_told_to_stop():
    result = advise(*architectures([(arch, 0.4) for arch in range(2) for _ in range(9)]))
    assert result.stop and result.ranking[0].gain < 0.01
    assert result.sentence.startswith("Another of these would change little (the best, net")
    assert result.sentence.endswith("stop, or try an architecture that is not here.")


@pytest.mark.parametrize("count", [2, 7])
def test_clones_promise_nothing(count):
    probs, targets = members(1, 200)
    result = advise(np.repeat(probs, count, axis=0), targets, ["net"] * count)
    assert result.stop and result.ranking[0].gain == pytest.approx(0, abs=1e-6)


def test_one_member_is_no_ground_to_judge_on():
    result = advise(*members(1, 50), ["net"])
    assert (result.ranking, result.stop) == ((), False)
    assert result.sentence.startswith("One member alone says nothing")


def test_no_errors_left():
    targets = np.arange(30) % 3
    result = advise(np.repeat(np.eye(3, dtype=np.float32)[targets][None], 2, axis=0), targets, ["a", "b"])
    assert result.stop and result.sentence.startswith("Stop: ")


@given(m=st.integers(2, 8), seed=st.integers(0, 300))
def test_advice_on_anything_is_sound(m, seed):
    random = np.random.default_rng(seed)
    probs, targets = members(m, 30, seed=seed, own=random.uniform(0, 4, m), shared=random.uniform(0, 3))
    archs = [f"net{arch}" for arch in random.integers(0, m, m)]
    result = advise(probs, targets, archs)
    assert sorted(one.arch for one in result.ranking) == sorted(set(archs))
    gains = [one.gain for one in result.ranking]
    assert gains == sorted(gains, reverse=True) and all(0 <= gain < 1 for gain in gains)
    assert json.dumps(asdict(result), allow_nan=False) and result == advise(probs, targets, archs)


@pytest.mark.parametrize(("count", "named"), [(1, "drop it: a"), (3, "drop it: keep d")])
def test_whichever_list_is_shorter_is_shown(count, named):
    parts = tuple(Part(name, Estimate(0.0, 0.0, 0.0), 0.1, 0, None) for name in "abcd")
    fewer = Elimination(tuple(range(count)), Estimate(0.0, 0.0, 0.0), None, "drop it")
    advice = Advice((), True, "stop")
    created = Report("accuracy", 10, (), (), parts, fewer, tuple("abcd"[:count]), advice)
    assert created.sentences() == [named, "stop"]
    assert created.facts()["shorter"]["dropped"] == list("abcd"[:count])
