"""Threads by free cores, and the number formats that a processor supports."""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

import pytest
import torch
from helpers.workers import compute_for


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


def test_threads_are_the_free_cores_and_at_least_half(module: Any) -> None:
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


def test_threads_are_recorded_and_restored(module: Any, cpu: Any) -> None:
    import torch

    before = torch.get_num_threads()
    with module.free_cores(cpu, {}) as chosen:
        assert chosen == {"threads": {"value": 5, "why": "other processes use 2.6 of 8 cores"}}
        assert torch.get_num_threads() == 5
    assert torch.get_num_threads() == before


def test_resumed_member_keeps_its_threads_if_there_are_enough_cores(module: Any, cpu: Any) -> None:
    for kept, expected in ((8, 8), (3, 3), (9, 5)):
        with module.free_cores(cpu, {"threads": {"value": kept, "why": ""}}) as chosen:
            assert chosen["threads"]["value"] == expected


def test_threads_set_by_the_user_are_kept(module: Any, cpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with module.free_cores(cpu, {"threads": {"value": 3, "why": ""}}) as chosen:
        assert chosen["threads"] == {"value": torch.get_num_threads(), "why": "OMP_NUM_THREADS is set"}


def test_gpu_leaves_the_threads_alone(module: Any) -> None:
    import torch

    with module.free_cores(torch.device("meta"), {}) as chosen:
        assert chosen == {}


def test_busy_cores_counts_other_processes_only() -> None:
    from ensemble.training.engine.hardware import busy_cores

    process = multiprocessing.get_context("spawn").Process(target=compute_for, args=(20.0,))
    process.start()
    try:
        deadline = time.perf_counter() + 15
        while busy_cores(0.5) < 0.2 and time.perf_counter() < deadline:
            pass
        assert busy_cores(0.5) > 0.2
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize(
    ("precision", "layout", "expected"),
    [
        ("auto", "auto", ["float32 default", "float32 channels_last", "bfloat16 channels_last"]),
        ("auto", "channels_last", ["float32 channels_last", "bfloat16 channels_last"]),
        ("float32", "auto", ["float32 default", "float32 channels_last"]),
        ("bfloat16", "auto", ["bfloat16 channels_last"]),
        ("float16", "auto", ["float16 channels_last"]),
        ("bfloat16", "default", ["bfloat16 default"]),
        ("auto", "default", ["float32 default", "bfloat16 default"]),
        ("float32", "channels_last", ["float32 channels_last"]),
    ],
)
def test_formats_of_a_recipe_on_a_processor(precision: str, layout: str, expected: list[str]) -> None:
    from ensemble.training.engine.hardware import pairs

    assert [" ".join(pair) for pair in pairs(precision, layout, torch.device("cpu"))] == expected
