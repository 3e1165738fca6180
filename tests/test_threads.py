"""A function of many files by threads: each once, in order, and no further than an error."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.data.threads import ROUND, threaded


@settings(max_examples=25)
@given(st.integers(0, 3 * ROUND), st.integers(1, 70))
def test_each_is_done_once_and_comes_in_order(count: int, threads: int) -> None:
    done: list[int] = []
    found = list(threaded(lambda item: (done.append(item), -item)[1], range(count), threads))
    assert found == [-item for item in range(count)]
    assert sorted(done) == list(range(count))


def test_an_error_is_raised_and_little_is_done_after_it() -> None:
    done: list[int] = []

    def stumble(item: int) -> int:
        if item == 5:
            raise ValueError("five")
        done.append(item)
        return item

    with pytest.raises(ValueError, match="five"):
        list(threaded(stumble, range(100 * ROUND), 2))
    assert len(done) <= ROUND
