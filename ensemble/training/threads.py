"""How many threads a member trains with on a CPU: the cores that are free when it begins.

A step takes as long as its slowest thread, and one that shares its core with another process is slow.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import joblib
import psutil
import torch

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""A user who sets one of these has decided."""
WINDOW = 0.3
"""Seconds over which other processes' use of the cores is measured."""


@contextmanager
def free_cores(device: torch.device, begun: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Compute with the threads that a member began with, or with as many as there are free cores, on a CPU.

    begun: the member's `auto` so far: a resumed member keeps its number, as sums of floats depend on it.
    Gives what is to be recorded there.
    """
    if device.type != "cpu":
        yield {}
        return
    before = torch.get_num_threads()
    chosen = chosen_threads(begun)
    torch.set_num_threads(chosen["value"])
    try:
        yield {"threads": chosen}
    finally:
        torch.set_num_threads(before)


def chosen_threads(begun: Mapping[str, Any]) -> dict[str, Any]:
    """The number and the reason, with what a member's `auto` has so far."""
    named = [name for name in VARIABLES if name in os.environ]
    if named:
        return {"value": torch.get_num_threads(), "why": f"{named[0]} is set"}
    cores = joblib.cpu_count()
    if "threads" in begun and begun["threads"]["value"] <= cores:
        return dict(begun["threads"])
    busy = busy_cores()
    return {"value": threads(cores, busy), "why": f"other processes use {busy:.1f} of {cores} cores"}


def threads(cores: int, busy: float) -> int:
    """The cores that others leave, and at least half: the system gives every process its share."""
    return max(round(cores - busy), (cores + 1) // 2)


def busy_cores(window: float = WINDOW) -> float:
    """How many cores' time the other processes took, those that can be seen, in so many seconds."""
    before, started = _times(), time.perf_counter()
    time.sleep(window)
    after, passed = _times(), time.perf_counter() - started
    return sum(max(0.0, spent - before[pid]) for pid, spent in after.items() if pid in before) / passed


def _times() -> dict[int, float]:
    """Processor seconds by process, without this one."""
    times = {}
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid():
                spent = process.cpu_times()
                times[process.pid] = spent.user + spent.system
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return times
