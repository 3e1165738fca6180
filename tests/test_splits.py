"""Laws of dividing rows: by content, never by order; groups whole, classes spread."""

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
def test_the_order_of_rows_decides_nothing(targets: list[int], n_folds: int, seed: int, random: object) -> None:
    ids, classes = named(len(targets)), np.array(targets, np.int64)
    order = list(range(len(targets)))
    random.shuffle(order)  # type: ignore[attr-defined]
    folds = stratified_folds(ids, classes, n_folds, seed)
    assert (stratified_folds(ids[order], classes[order], n_folds, seed) == folds[order]).all()
    mask = held_out(ids, classes, 0.3, seed)
    assert (held_out(ids[order], classes[order], 0.3, seed) == mask[order]).all()


@given(labels, st.integers(2, 6), seeds)
def test_each_class_and_the_whole_are_spread_to_within_one(targets: list[int], n_folds: int, seed: int) -> None:
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
def test_a_group_is_never_divided(rows: list[tuple[int, int]], seed: int) -> None:
    targets = np.array([row[0] for row in rows], np.int64)
    groups = np.array([f"patient-{row[1]}" for row in rows])
    ids = named(len(rows))
    for parts in (stratified_folds(ids, targets, 3, seed, groups), held_out(ids, targets, 0.2, seed, groups)):
        assert all(len(set(parts[groups == group].tolist())) == 1 for group in np.unique(groups))


def test_the_seed_moves_rows_and_the_same_seed_does_not() -> None:
    ids, targets = named(200), np.arange(200) % 4
    first = held_out(ids, targets, 0.2, 0)
    assert (held_out(ids, targets, 0.2, 0) == first).all()
    assert (held_out(ids, targets, 0.2, 1) != first).any()


@pytest.mark.parametrize(("seed", "rows"), [(0, [1, 8]), (1, [2, 8])])
def test_the_split_is_the_same_in_every_version(seed: int, rows: list[int]) -> None:
    """A changed place would change every fingerprint that people have on disk."""
    mask = held_out(np.array([str(row) for row in range(10)]), np.zeros(10, np.int64), 0.2, seed)
    assert np.flatnonzero(mask).tolist() == rows
