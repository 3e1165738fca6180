"""A function of many files by threads: each once, in order, and no further than an error."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.core import parallel as module
from ensemble.core.parallel import CHUNK, TIMED_ITEMS, threaded_map


@settings(max_examples=25)
@given(st.integers(0, 3 * CHUNK), st.integers(1, 70), st.booleans())
def test_each_is_done_once_and_comes_in_order(count: int, threads: int, slow: bool) -> None:
    done: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MIN_THREAD_SECONDS", 0.0 if slow else 1.0)
        result = list(threaded_map(lambda item: (done.append(item), -item)[1], range(count), threads))
    assert result == [-item for item in range(count)]
    assert sorted(done) == list(range(count))


def test_only_what_takes_long_is_done_by_many_threads() -> None:
    def who(seconds: float) -> int:
        time.sleep(seconds)
        return threading.get_ident()

    assert len(set(threaded_map(who, [0.0] * 200, 4))) == 1
    assert len(set(threaded_map(who, [0.002] * 200, 4))) > 1


@pytest.mark.parametrize("worth", [0.0, 1.0])
def test_an_error_is_raised_and_little_is_done_after_it(worth: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_THREAD_SECONDS", worth)
    done: list[int] = []

    def stumble(item: int) -> int:
        if item == 50:
            raise ValueError("fifty")
        done.append(item)
        return item

    with pytest.raises(ValueError, match="fifty"):
        list(threaded_map(stumble, range(100 * CHUNK), 2))
    assert len(done) <= CHUNK + TIMED_ITEMS
