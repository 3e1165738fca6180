"""Functions of many files in threads: once each, in order, stopped by an error; OpenMP threads that do not spin."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.core import parallel as module
from ensemble.core.parallel import CHUNK, SPIN_COUNT, TIMED_ITEMS, WAIT_VARIABLES, threaded_map


@settings(max_examples=25)
@given(st.integers(0, 3 * CHUNK), st.integers(1, 70), st.booleans())
def test_threaded_map_keeps_the_order(count: int, threads: int, slow: bool) -> None:
    done: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MIN_THREAD_SECONDS", 0.0 if slow else 1.0)
        result = list(threaded_map(lambda item: (done.append(item), -item)[1], range(count), threads))
    assert result == [-item for item in range(count)]
    assert sorted(done) == list(range(count))


def test_threads_start_only_for_slow_items() -> None:
    def who(seconds: float) -> int:
        time.sleep(seconds)
        return threading.get_ident()

    assert len(set(threaded_map(who, [0.0] * 200, 4))) == 1
    assert len(set(threaded_map(who, [0.002] * 200, 4))) > 1


@pytest.mark.parametrize("worth", [0.0, 1.0])
def test_threaded_map_stops_at_an_error(worth: float, monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize("given", [None, *WAIT_VARIABLES])
def test_openmp_threads_spin_briefly_by_default(given: str | None) -> None:
    env = {name: value for name, value in os.environ.items() if name not in WAIT_VARIABLES}
    code = "import os\nfrom ensemble.cli import main\ntry: main(['--version'])\nexcept SystemExit: pass\n"
    code += f"print([os.environ.get(name) for name in {WAIT_VARIABLES!r}])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env if given is None else {**env, given: "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = (
        [None, str(SPIN_COUNT)] if given is None else ["7" if name == given else None for name in WAIT_VARIABLES]
    )
    assert done.stdout.splitlines()[-1] == str(expected)
