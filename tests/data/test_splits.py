"""Dividing rows: by content, never by order; groups whole, classes spread."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.data.splits import held_out, stratified_folds

labels = st.lists(st.integers(-1, 4), min_size=1, max_size=60)


seeds = st.integers(0, 99)


def named(n: int) -> np.ndarray:
    return np.array([f"item-{row}" for row in range(n)])


@given(labels, st.integers(2, 6), seeds, st.randoms(use_true_random=False))
def test_folds_ignore_the_order_of_rows(targets: list[int], n_folds: int, seed: int, random: object) -> None:
    ids, classes = named(len(targets)), np.array(targets, np.int64)
    order = list(range(len(targets)))
    random.shuffle(order)  # type: ignore[attr-defined]
    folds = stratified_folds(ids, classes, n_folds, seed)
    assert (stratified_folds(ids[order], classes[order], n_folds, seed) == folds[order]).all()
    mask = held_out(ids, classes, 0.3, seed)
    assert (held_out(ids[order], classes[order], 0.3, seed) == mask[order]).all()


@given(labels, st.integers(2, 6), seeds)
def test_classes_are_spread_over_folds_to_within_one(targets: list[int], n_folds: int, seed: int) -> None:
    classes = np.array(targets, np.int64)
    folds = stratified_folds(named(len(targets)), classes, n_folds, seed)
    for label in np.unique(classes):
        counts = np.bincount(folds[classes == label], minlength=n_folds)
        assert counts.max() - counts.min() <= 1
    assert set(folds) <= set(range(n_folds))


@given(labels, st.floats(0.01, 0.99), seeds)
def test_some_of_each_class_is_held_out_and_never_all(targets: list[int], fraction: float, seed: int) -> None:
    classes = np.array(targets, np.int64)
    mask = held_out(named(len(targets)), classes, fraction, seed)
    for label, count in zip(*np.unique(classes, return_counts=True), strict=True):
        taken = mask[classes == label].sum()
        assert taken == min(max(1, round(fraction * count)), count - 1)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=60), seeds)
def test_group_is_never_divided(rows: list[tuple[int, int]], seed: int) -> None:
    targets = np.array([row[0] for row in rows], np.int64)
    groups = np.array([f"patient-{row[1]}" for row in rows])
    ids = named(len(rows))
    for parts in (stratified_folds(ids, targets, 3, seed, groups), held_out(ids, targets, 0.2, seed, groups)):
        assert all(len(set(parts[groups == group].tolist())) == 1 for group in np.unique(groups))


def test_split_depends_on_the_seed() -> None:
    ids, targets = named(200), np.arange(200) % 4
    first = held_out(ids, targets, 0.2, 0)
    assert (held_out(ids, targets, 0.2, 0) == first).all()
    assert (held_out(ids, targets, 0.2, 1) != first).any()


@pytest.mark.parametrize(("seed", "rows"), [(0, [1, 8]), (1, [2, 8])])
def test_split_is_the_same_in_every_version(seed: int, rows: list[int]) -> None:
    """A changed place would change every fingerprint that people have on disk."""
    mask = held_out(np.array([str(row) for row in range(10)]), np.zeros(10, np.int64), 0.2, seed)
    assert np.flatnonzero(mask).tolist() == rows


def grouped_rows(sizes: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """ids, targets, names of groups, and the number of the group of each row."""
    number = np.repeat(np.arange(len(sizes)), sizes)
    return named(len(number)), classes[number], np.array([f"patient-{group}" for group in number]), number


def structure(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sizes and classes of 90 groups, and an effect of each that depends on both: as of lesions, or of patients."""
    rng = np.random.default_rng(seed)
    kinds = (
        rng.choice([1, 2, 3, 6], p=[0.75, 0.15, 0.06, 0.04], size=90),
        rng.integers(3, 20, size=90),
        np.minimum(rng.zipf(2.0, size=90), 12),
        np.ones(90, np.int64),
    )
    sizes = kinds[seed % 4]
    classes = rng.permutation(np.repeat([0, 1, 2], [45, 27, 18]))
    return sizes, classes, rng.normal(size=90) - np.log(sizes) + 0.5 * classes


def statistics(mask: np.ndarray, number: np.ndarray, targets: np.ndarray, effect: np.ndarray) -> list[float]:
    """Mean size of a group, rows, the share of each class, and the mean effect, of the rows of `mask`."""
    rows = number[mask]
    return [
        len(rows) / len(np.unique(rows)),
        len(rows) / len(number),
        *(float(np.mean(targets[mask] == label)) for label in range(3)),
        float(effect[rows].mean()),
    ]


@pytest.mark.parametrize("kind", range(8))
@pytest.mark.parametrize("part", ["held out", "fold"])
def test_part_of_grouped_rows_is_a_fair_sample(kind: int, part: str) -> None:
    """Over seeds the expectation of every statistic is that of the whole, whatever the sizes of groups."""
    sizes, classes, effect = structure(kind)
    ids, targets, groups, number = grouped_rows(sizes, classes)

    def mask(seed: int) -> np.ndarray:
        if part == "fold":
            return stratified_folds(ids, targets, 5, seed, groups) == 0
        return held_out(ids, targets, 0.2, seed, groups)

    drawn = np.array([statistics(mask(seed), number, targets, effect) for seed in range(150)])
    whole = np.array(statistics(np.ones(len(ids), bool), number, targets, effect))
    whole[1] = 0.2
    error = drawn.std(axis=0) / np.sqrt(len(drawn))
    # a mean over a random number of groups is off by a share of its own spread
    slack = drawn.std(axis=0) ** 2 / np.maximum(np.abs(whole), 0.1)
    assert (np.abs(drawn.mean(axis=0) - whole) <= 4.5 * error + slack + 0.002).all()


@pytest.mark.parametrize("kind", range(4))
def test_groups_are_equally_likely_to_be_held_out(kind: int) -> None:
    sizes, classes, _ = structure(kind)
    ids, targets, groups, _ = grouped_rows(sizes, classes)
    firsts = np.cumsum(sizes) - sizes
    often = np.mean([held_out(ids, targets, 0.2, seed, groups)[firsts] for seed in range(400)], axis=0)
    assert np.abs(often - 0.2).max() < 4.5 * np.sqrt(0.2 * 0.8 / 400)
    large = sizes >= np.quantile(sizes, 0.9)
    assert abs(often[large].mean() - 0.2) < 0.02


few_groups = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 2)), min_size=3, max_size=80)


many_groups = st.lists(st.lists(st.integers(1, 9), min_size=30, max_size=50), min_size=1, max_size=3)


@given(many_groups, st.floats(0.3, 0.7), seeds)
def test_held_out_groups_are_within_half_a_group_of_the_fraction(
    by_class: list[list[int]], fraction: float, seed: int
) -> None:
    sizes = np.concatenate([np.array(each) for each in by_class])
    classes = np.repeat(np.arange(len(by_class)), [len(each) for each in by_class])
    ids, targets, groups, _ = grouped_rows(sizes, classes)
    mask = held_out(ids, targets, fraction, seed, groups)
    assert abs(mask.sum() - fraction * len(ids)) <= sizes.max() / 2 + 1e-6
    wanted = fraction * np.bincount(targets)
    assert (np.abs(np.bincount(targets[mask]) - wanted) <= sizes.max() + 1e-6).all()


@given(few_groups, st.floats(0.05, 0.95), seeds)
def test_each_class_of_several_groups_is_in_both_parts(
    rows: list[tuple[int, int]], fraction: float, seed: int
) -> None:
    sizes, classes = np.array(rows).T
    ids, targets, groups, _ = grouped_rows(sizes, classes)
    mask = held_out(ids, targets, fraction, seed, groups)
    for label in np.unique(classes):
        several = np.sum(classes == label) > 1
        assert mask[targets == label].any() == several
        assert not mask[targets == label].all()


@pytest.mark.parametrize("seed", range(20))
def test_group_of_most_of_its_class_stays_in_train(seed: int) -> None:
    ids, targets, groups, number = grouped_rows(np.array([10, 1, 1, 1, 1, *[1] * 40]), np.array([0] * 5 + [1] * 40))
    mask = held_out(ids, targets, 0.2, seed, groups)
    assert not mask[number == 0].any()
    assert mask[targets == 0].any()


def test_split_of_groups_is_the_same_in_every_version() -> None:
    groups = np.array([f"g{row // 2}" for row in range(12)])
    ids, targets = np.array([str(row) for row in range(12)]), np.arange(12) // 6
    assert np.flatnonzero(held_out(ids, targets, 0.3, 0, groups)).tolist() == [0, 1, 8, 9]
    assert stratified_folds(ids, targets, 3, 0, groups).tolist() == [1, 1, 0, 0, 2, 2, 2, 2, 1, 1, 0, 0]
