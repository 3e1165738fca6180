"""Threads by the cores that are free, recorded and kept; threads that do not wait for long."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from typing import Any

import pytest

from ensemble.core.parallel import SPIN_COUNT, WAIT_VARIABLES


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    from ensemble.training.engine import hardware

    for name in hardware.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hardware.joblib, "cpu_count", lambda: 8)
    monkeypatch.setattr(hardware, "busy_cores", lambda: 2.6)
    return hardware


@pytest.fixture
def cpu() -> Any:
    import torch

    return torch.device("cpu")


def test_the_cores_that_others_leave_and_at_least_half(module: Any) -> None:
    taken = {
        (2, 0.0): 2,
        (2, 0.4): 2,
        (2, 1.0): 1,
        (2, 9.0): 1,
        (1, 1.0): 1,
        (8, 2.6): 5,
        (8, 8.0): 4,
        (16, 15.0): 8,
    }
    assert {key: module.threads(*key) for key in taken} == taken


def test_a_member_records_its_threads_and_puts_the_number_back(module: Any, cpu: Any) -> None:
    import torch

    before = torch.get_num_threads()
    with module.free_cores(cpu, {}) as chosen:
        assert chosen == {"threads": {"value": 5, "why": "other processes use 2.6 of 8 cores"}}
        assert torch.get_num_threads() == 5
    assert torch.get_num_threads() == before


def test_a_resumed_member_keeps_its_number_unless_the_machine_has_fewer_cores(module: Any, cpu: Any) -> None:
    for kept, expected in ((8, 8), (3, 3), (9, 5)):
        with module.free_cores(cpu, {"threads": {"value": kept, "why": ""}}) as chosen:
            assert chosen["threads"]["value"] == expected


def test_a_user_who_has_decided_is_not_overruled(module: Any, cpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with module.free_cores(cpu, {"threads": {"value": 3, "why": ""}}) as chosen:
        assert chosen["threads"] == {"value": torch.get_num_threads(), "why": "OMP_NUM_THREADS is set"}


def test_a_device_of_another_kind_has_no_say(module: Any) -> None:
    import torch

    with module.free_cores(torch.device("meta"), {}) as chosen:
        assert chosen == {}


def _work(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_other_processes_are_counted_and_this_one_is_not() -> None:
    from ensemble.training.engine.hardware import busy_cores

    process = multiprocessing.get_context("spawn").Process(target=_work, args=(20.0,))
    process.start()
    try:
        deadline = time.perf_counter() + 15
        while busy_cores(0.5) < 0.2 and time.perf_counter() < deadline:
            pass
        assert busy_cores(0.5) > 0.2
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize("given", [None, *WAIT_VARIABLES])
def test_threads_wait_briefly_where_the_user_has_not_decided(given: str | None) -> None:
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
