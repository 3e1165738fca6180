"""Predictions: rows that are nearly probabilities are normalised, in any precision, order and layout."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble.core.errors import DataError
from ensemble.core.predictions import checked


@pytest.mark.parametrize("dtype", ["<f8", ">f4", ">f8"])
def test_predictions_in_another_dtype_are_equal(dtype: str) -> None:
    rows = np.exp(np.random.default_rng(0).normal(size=(60, 10)).astype(np.float32))
    rows /= rows.sum(axis=1, keepdims=True)  # a softmax in float32, as networks give it
    ids, classes = np.array([f"i{i}" for i in range(60)]), np.array(list("abcdefghij"))
    first, other = (checked(ids, probs, classes, source="x").probs for probs in (rows, rows.astype(dtype)))
    assert first.tobytes() == other.tobytes()


def test_tolerance_of_row_sums_ignores_class_order() -> None:
    row = [0.19225035490958947, 0.1143863306836119, 0.2088383427935597, 0.27554791898189523, 0.20997705263134367]
    refused = set()
    for order in permutations(range(5)):
        try:
            checked(np.array(["x"]), np.array([row])[:, order], np.array(list("abcde"))[list(order)], source="x")
            refused.add(False)
        except DataError:
            refused.add(True)
    assert len(refused) == 1


@given(
    k=st.integers(2, 12),
    seed=st.integers(0, 1000),
    spread=st.sampled_from([0.01, 0.3, 5.0]),
    dtype=st.sampled_from(["<f2", "<f4", "<f8", ">f8"]),
    off=st.floats(-9e-4, 9e-4),
)
def test_rows_of_any_precision_are_normalised(k: int, seed: int, spread: float, dtype: str, off: float) -> None:
    random = np.random.default_rng(seed)
    given_ = random.dirichlet(np.full(k, spread), 5)
    rows = (given_ if dtype == "<f2" else given_ * (1 + off)).astype(dtype)
    order, columns = random.permutation(5), random.permutation(k)
    ids, classes = (np.array([f"{letter}{i}" for i in range(many)]) for letter, many in (("i", 5), ("c", k)))
    read = checked(ids, rows, classes, source="x").probs
    permuted = checked(ids[order], rows[order][:, columns], classes[columns], source="x").probs
    assert read.dtype == np.float32
    assert np.abs(read.sum(axis=1, dtype=np.float64) - 1).max() <= 1e-6
    assert np.abs(read - given_).max() <= 1e-3
    assert permuted.tobytes() == read[order][:, columns].tobytes()
    assert checked(ids, read, classes, source="x").probs.tobytes() == read.tobytes()
