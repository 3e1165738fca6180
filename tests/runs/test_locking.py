"""A run is used by one process at a time."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from helpers.workers import hold_run

from ensemble.core.errors import RunLocked
from ensemble.runs.run import locked


def test_lock_names_the_process_that_holds_the_run(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, leave = context.Event(), context.Event()
    first = context.Process(target=hold_run, args=(tmp_path, ready, leave))
    first.start()
    assert ready.wait(30)
    with pytest.raises(RunLocked, match=f"process {first.pid} on "), locked(tmp_path, "a-1"):
        pass
    with locked(tmp_path, "b-2"):  # another run is free
        pass
    first.kill()  # a killed holder leaves no lock behind
    first.join()
    with locked(tmp_path, "a-1"):
        pass
