"""Two predictions of the same rows: the difference, its interval, and McNemar's test."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import product

import numpy as np
import pytest
from helpers.pools import ACCURACY
from helpers.synthetic import members
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, sem
from scipy.stats import t as student

from ensemble.metrics import find, metrics
from ensemble.stats.comparison import compare, mcnemar
from ensemble.stats.intervals import difference, differences, drawn_scores, interval

BY_ROWS = ["accuracy", "log_loss", "brier"]


BY_DRAWS = ["balanced_accuracy", "macro_f1", "roc_auc", "kappa", "ece"]


def saying(right, targets, k=2):
    """One-hot predictions (n, k) that are right where `right` (n,) says so."""
    return np.eye(k, dtype=np.float32)[np.where(right, targets, (targets + 1) % k)]


def counted(only_ours, only_theirs, both=100, neither=0):
    """Predictions of which only ours, only theirs, both or neither are right on so many rows."""
    ours = np.repeat([True, False, True, False], [only_ours, only_theirs, both, neither])
    theirs = np.repeat([False, True, True, False], [only_ours, only_theirs, both, neither])
    targets = np.arange(len(ours)) % 2
    return saying(ours, targets), saying(theirs, targets), targets


def paired(ours, theirs, targets):
    return [(ours, theirs)], targets


def in_groups(n, size):
    return np.array([f"patient{i // size:03}" for i in range(n)])


@pytest.mark.parametrize("size", [None, 5])
@pytest.mark.parametrize("name", BY_ROWS)
def test_closed_form_difference_agrees_with_the_bootstrap(name, size):
    (ours, theirs), targets = members(2, 600, seed=1)
    groups = None if size is None else in_groups(600, size)
    closed = difference(metrics.get(name), ours, theirs, targets, groups)
    drawn = difference(replace(metrics.get(name), rows=None), ours, theirs, targets, groups, 1000)
    assert closed.value == pytest.approx(drawn.value, abs=1e-9)
    assert closed.se == pytest.approx(drawn.se, rel=0.1)
    assert (closed.low, closed.high) == pytest.approx((drawn.low, drawn.high), abs=0.3 * drawn.se)


@pytest.mark.parametrize("name", BY_ROWS + BY_DRAWS)
def test_swapped_comparison_is_the_opposite(name):
    (ours, theirs), targets = members(2, 150, seed=2)
    metric = metrics.get(name)
    there, back = (difference(metric, *pair, targets, None) for pair in ((ours, theirs), (theirs, ours)))
    assert asdict(there) == pytest.approx(asdict(back.opposite()))
    assert there.value == pytest.approx(metric(ours, targets) - metric(theirs, targets))
    assert there.low < there.value < there.high
    assert there.se > 0
    assert there.gain(metric).value == (there.value if metric.higher else -there.value)


@pytest.mark.parametrize("name", BY_ROWS + BY_DRAWS)
def test_comparison_with_many_is_one_with_each(name):
    (ours, *others), targets = members(4, 90, seed=3)
    groups, metric = in_groups(90, 3), metrics.get(name)
    together = differences(metric, ours, iter(others), targets, groups)
    assert together == [difference(metric, ours, theirs, targets, groups) for theirs in others]


@pytest.mark.parametrize("name", BY_ROWS + BY_DRAWS)
def test_clone_has_difference_zero(name):
    (ours,), targets = members(1, 80)
    result = difference(metrics.get(name), ours, ours.copy(), targets, None)
    assert (result.value, result.se) == (0, 0)


@pytest.mark.parametrize("size", [None, 4])
def test_equal_labels_on_few_rows_are_not_certain(size):
    ours, theirs, targets = counted(0, 0, both=40)
    groups = None if size is None else in_groups(40, size)
    result = difference(ACCURACY, ours, theirs, targets, groups)
    assert result.se == 0 and result.high == -result.low > 0
    assert size is None or result.high > difference(ACCURACY, ours, theirs, targets, None).high


@pytest.mark.parametrize("name", BY_ROWS)
def test_repeated_rows_of_a_group_count_once(name):
    (ours, theirs), targets = members(2, 60, seed=4)
    metric, often = metrics.get(name), np.repeat(np.arange(60), 7)
    once = difference(metric, ours, theirs, targets, None)
    many = difference(metric, ours[often], theirs[often], targets[often], in_groups(420, 7))
    assert (many.value, many.se) == pytest.approx((once.value, once.se))


def test_few_rows_have_the_textbook_standard_error():
    (ours, theirs), targets = members(2, 9, seed=4)
    brier = metrics.get("brier")
    gaps = brier.view(ours, targets) - brier.view(theirs, targets)
    result = difference(brier, ours, theirs, targets, None)
    assert result.se == pytest.approx(sem(gaps))
    assert (result.low, result.high) == pytest.approx(student.interval(0.95, 8, result.value, result.se), rel=0.02)


def test_correlated_errors_narrow_the_interval():
    apart = [members(2, 400, seed=5, shared=shared, own=0.5) for shared in (0, 2)]
    loose, close = (difference(metrics.get("brier"), *pair, targets, None).se for pair, targets in apart)
    (ours, theirs), targets = apart[1]
    unpaired = np.hypot(*[np.std(metrics.get("brier").view(item, targets)) / 20 for item in (ours, theirs)])
    assert close < 0.6 * unpaired and loose > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "n", "size", "at_least"),
    [("accuracy", 60, 1, 0.93), ("accuracy", 400, 10, 0.91), ("macro_f1", 200, 1, 0.9)],
)
def test_interval_covers_the_true_difference(name, n, size, at_least):
    """Ours is right on 85 % of all rows there are, theirs on 75 %, and rows of a group share their luck."""
    held, levels = [], (0.85, 0.75)
    for seed in range(250):
        random = np.random.default_rng(seed)
        luck = np.repeat(random.random(n // size), size)
        own = random.random((2, n)) < 0.5
        ours, theirs = (
            np.where(mine, luck, random.random(n)) < level for mine, level in zip(own, levels, strict=True)
        )
        targets = random.integers(0, 2, n)
        groups = None if size == 1 else in_groups(n, size)
        result = difference(metrics.get(name), saying(ours, targets), saying(theirs, targets), targets, groups)
        held.append(result.low <= 0.1 <= result.high)
    assert np.mean(held) >= at_least


def test_bootstrap_skips_draws_without_a_positive():
    (ours, theirs), targets = members(2, 30, k=2, seed=6)
    targets[:] = 0
    targets[:2] = 1
    metric = find("roc_auc:b", ["a", "b"])
    drawn = drawn_scores(metric, ours, targets, None, 200)
    result = difference(metric, ours, theirs, targets, None)
    assert np.isnan(drawn).any()
    assert all(np.isfinite(list(asdict(result).values())))


def test_undefined_metric_has_no_difference():
    (ours, theirs), targets = members(2, 30, k=2, seed=6)
    result = difference(find("roc_auc:b", ["a", "b"]), ours, theirs, targets * 0, None)
    assert np.isnan(list(asdict(result).values())).all()


@given(only_ours=st.integers(0, 400), only_theirs=st.integers(0, 400))
def test_mcnemar_is_the_binomial_test_of_the_differing_rows(only_ours, only_theirs):
    balances = np.repeat([1, -1, 0], [only_ours, only_theirs, 7])
    total = only_ours + only_theirs
    expected = binomtest(only_ours, total).pvalue if total else 1.0
    assert mcnemar(balances) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_very_many_rows():
    assert mcnemar(np.repeat([1, -1], [20_400, 20_000])) == pytest.approx(
        binomtest(20_400, 40_400).pvalue, rel=1e-7
    )


@given(st.lists(st.integers(-6, 6), max_size=9))
def test_mcnemar_by_group_counts_all_ways_to_swap_groups(balances):
    units = np.array(balances, np.int64)
    ways = [abs(int(units @ np.array(signs, np.int64))) for signs in product([1, -1], repeat=len(units))]
    assert mcnemar(units) == pytest.approx(np.mean([way >= abs(sum(balances)) for way in ways]))


@pytest.mark.slow
@pytest.mark.parametrize(("size", "name"), [(1, "accuracy"), (5, "accuracy"), (1, "log_loss"), (4, "log_loss")])
def test_equal_members_are_seldom_called_different(size, name, monkeypatch):
    """Two members of the same skill: p-values are at least about as large as uniform ones, and not all near 1."""
    monkeypatch.setattr("ensemble.stats.comparison.MOST_DRAWS", 250)
    p_values = []
    for seed in range(200):
        (ours, theirs), targets = members(2, 120, seed=seed)
        if size > 1:  # images of a patient are alike
            alike = np.repeat(np.arange(0, 120, size), size)
            ours, theirs, targets = (rows[alike] for rows in (ours, theirs, targets))
        groups = None if size == 1 else in_groups(120, size)
        p_values.append(compare(metrics.get(name), [(ours, theirs)], targets, groups, "it").p_value)
    shares = [np.mean(np.array(p_values) <= level) for level in (0.05, 0.2)]
    assert shares[0] <= 0.085 and 0.07 <= shares[1] <= 0.27


def test_ignoring_groups_finds_false_differences():
    result = []
    for seed in range(100):
        (ours, theirs), targets = members(2, 150, seed=seed)
        alike = np.repeat(np.arange(0, 150, 10), 10)
        rows = ours[alike], theirs[alike], targets[alike]
        result.append(
            [compare(ACCURACY, [rows[:2]], rows[2], g, "it").p_value <= 0.05 for g in (None, in_groups(150, 10))]
        )
    ignored, respected = np.mean(result, axis=0)
    assert ignored > 0.3 and respected <= 0.1


@pytest.mark.parametrize(
    ("only_ours", "only_theirs", "verdict", "images", "p_value"),
    [
        (61, 22, "Better than it, and not by luck", "61 images", "p = 0.00002"),
        (12, 3, "Better than it, and probably not by luck", "12 images", "p = 0.035"),
        (3, 2, "No better and no worse than it as far as these 105 images can tell", "3 images", "p = 1.0"),
        (1, 14, "Worse than it, and not by bad luck", "1 image", "p = 0.0010"),
        (200, 0, "Better than it, and not by luck", "200 images", "p < 0.000001"),
    ],
)
def test_verdict_on_accuracy(only_ours, only_theirs, verdict, images, p_value):
    result = compare(ACCURACY, *paired(*counted(only_ours, only_theirs)), None, "it")
    counts = f"right on {images} where it is wrong, wrong on {only_theirs} where it is right"
    assert result.sentence == f"{verdict}: {counts} (McNemar {p_value})."
    assert (result.only_ours, result.only_theirs) == (only_ours, only_theirs)


def test_verdict_on_equal_labels():
    result = compare(ACCURACY, *paired(*counted(0, 0)), None, "the plain mean")
    assert result.sentence == "No different from the plain mean: both give each of these 100 images the same label."


def test_verdict_on_another_metric():
    (ours, theirs), targets = members(2, 300, seed=7, own=1.5)
    mean = (ours + theirs) / 2
    better = compare(metrics.get("log_loss"), [(mean, ours)], targets, None, "the best member")
    assert better.sentence.startswith("Better than the best member, and not by luck: log_loss 0.")
    assert "lower is better (difference -0." in better.sentence and better.sentence.endswith("p < 0.002).")
    assert better.difference.value < 0 and better.difference.high < 0
    assert compare(metrics.get("log_loss"), [(ours, mean)], targets, None, "it").sentence.startswith(
        "Worse than it, and"
    )
    luck = compare(metrics.get("roc_auc"), [(ours, theirs)], targets, None, "it")
    assert luck.sentence.startswith(
        "No better and no worse than it as far as these 300 images can tell: roc_auc 0."
    )
    assert luck.difference.low < 0 < luck.difference.high and luck.test == "paired bootstrap"
    same = compare(metrics.get("brier"), [(ours, ours)], targets, None, "it")
    assert same.sentence == "No different from it: both have the same brier on each of these 300 images."
    assert (same.p_value, same.test) == (1, "none")


@pytest.mark.parametrize("size", [None, 4])
@pytest.mark.parametrize("name", [*BY_ROWS, *BY_DRAWS, "roc_auc:a+roc_auc:c", "accuracy+kappa"])
def test_every_metric_compares_and_is_json(name, size):
    (ours, theirs), targets = members(2, 80, seed=8)
    groups = None if size is None else in_groups(80, size)
    metric = find(name, ["a", "b", "c"])
    result = compare(metric, [(ours, theirs)], targets, groups, "it")
    assert result == compare(metric, [(ours, theirs)], targets, groups, "it")
    assert json.loads(json.dumps(asdict(result), allow_nan=False)) == asdict(result)
    assert compare(metric, [(ours, ours.copy())], targets, groups, "it").test == "none"


@pytest.mark.parametrize(
    ("name", "width"), [("roc_auc", 1), ("roc_auc:1", 1), ("kappa", 2), ("brier", 2), ("ece", 1)]
)
def test_interval_of_few_rows_stays_in_the_range_of_the_metric(name, width, monkeypatch):
    monkeypatch.setattr("ensemble.stats.comparison.MOST_DRAWS", 250)
    targets = np.array([0, 1, 0, 1, 0])
    random = np.random.default_rng(3)
    metric = find(name, ["0", "1"])
    reached = False
    for _ in range(20):
        ours, theirs = (random.dirichlet([0.2, 0.2], len(targets)).astype(np.float32) for _ in range(2))
        result = difference(metric, ours, theirs, targets, None)
        compared = compare(metric, [(ours, theirs)], targets, None, "b")
        for low, high in ((result.low, result.high), (compared.difference.low, compared.difference.high)):
            assert np.isnan(low) or -width <= low <= high <= width
            reached |= low == -width or high == width
        low, high = interval(metric, [ours], targets, None)
        assert np.isnan(low) or metric.least <= low <= high <= metric.most
    assert reached or name == "ece"
