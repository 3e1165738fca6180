"""The seed rule's selection of members, against its definition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble.combine.fit import select
from ensemble.core.errors import NothingPassed

CASES = [
    # archs, accuracies, threshold, per_arch, kept
    ("abc", [0.9, 0.8, 0.7], 0.0, 1, {0, 1, 2}),
    ("abc", [0.9, 0.8, 0.7], 0.75, 0, {0, 1}),
    ("abc", [0.9, 0.8, 0.7], 0.75, 1, {0, 1, 2}),
    ("aab", [0.9, 0.8, 0.7], 0.95, 1, {0, 2}),
    ("aab", [0.9, 0.8, 0.7], 0.85, 2, {0, 1, 2}),
    ("aaa", [0.9, 0.8, 0.7], 0.85, 2, {0, 1}),
    ("aaa", [0.9, 0.8, 0.7], 0.65, 1, {0, 1, 2}),  # N is a floor, not a ceiling
    ("aa", [0.95, 0.95], 0.95, 1, {0}),  # strictly above; the tie goes to the smaller id
    ("ab", [0.0, 0.0], 0.0, 1, {0, 1}),
]


@pytest.mark.parametrize(("archs", "accuracies", "threshold", "per_arch", "kept"), CASES)
def test_select_members(archs, accuracies, threshold, per_arch, kept):
    ids = [f"run{i}" for i in range(len(archs))]
    assert set(select(ids, archs, accuracies, threshold=threshold, per_arch=per_arch).kept) == kept


@given(
    entries=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10)), min_size=1, max_size=8),
    threshold=st.integers(0, 10),
    per_arch=st.integers(1, 3),
    order=st.randoms(use_true_random=False),
)
def test_select_is_its_definition_in_any_order(entries, threshold, per_arch, order):
    named = [(f"run{i}", arch, tenths / 10) for i, (arch, tenths) in enumerate(entries)]
    expected = set()
    for arch in "abc":
        ranked = sorted((e for e in named if e[1] == arch), key=lambda e: (-e[2], e[0]))
        above = [e for e in ranked if e[2] > threshold / 10]
        expected |= {e[0] for e in (above if len(above) >= per_arch else ranked[:per_arch])}
    order.shuffle(named)
    ids, archs, accuracies = zip(*named, strict=True)
    result = select(ids, archs, accuracies, threshold=threshold / 10, per_arch=per_arch)
    assert {ids[i] for i in result.kept} == expected
    assert list(result.kept) == sorted(result.kept)
    assert result.passed == sum(a > threshold / 10 for a in accuracies)


def test_nothing_passed_names_the_best_with_their_accuracies():
    ids, accuracies = [f"r{i}" for i in range(7)], [0.1, 0.9, 0.3, 0.8, 0.5, 0.6, 0.7]
    with pytest.raises(NothingPassed) as caught:
        select(ids, ids, accuracies, threshold=0.95, per_arch=0)
    assert "r1 0.9000, r3 0.8000, r6 0.7000, r5 0.6000, r4 0.5000;" in str(caught.value)
    assert caught.value.exit_code == 4


def test_selection_reasons():
    result = select(["x", "y", "z"], "aab", [0.9, 0.2, 0.1], threshold=0.5, per_arch=1)
    assert result.reasons == ("above 0.5", "not above 0.5", "next best b")
