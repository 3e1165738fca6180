"""Device, number of threads and numeric format of training.

A step takes as long as its slowest thread, and a thread that shares its core with another process is slow.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

import joblib
import psutil
import torch

from ensemble.core.errors import RecipeError
from ensemble.models.network import Network


def choose_device(name: str | None) -> torch.device:
    """The device `name` (`cpu`, `cuda`, `cuda:1`, `mps`), for None or `auto` the best one. Raises RecipeError."""
    if name in (None, "auto"):
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert name is not None
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise RecipeError(
            f"device {name!r} is not usable here; type --device cpu, cuda or mps, or leave it out"
        ) from error
    return device


def describe(device: torch.device) -> str:
    """The device as text: `cuda (NVIDIA H200)`, `cpu (2 threads)`."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} threads)"
    return str(device)


THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""If one of these is set, the number of threads is the user's choice."""
BUSY_WINDOW = 0.3
"""Seconds over which the CPU use of other processes is measured."""


@contextmanager
def free_cores(device: torch.device, auto: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Context in which a CPU computes with the member's recorded number of threads, or one for each free core.

    auto: the member's `auto` so far: a resumed member keeps its number, as sums of floats depend on it.
    Yields what is to be recorded in `auto`.
    """
    if device.type != "cpu":
        yield {}
        return
    before = torch.get_num_threads()
    choice = chosen_threads(auto)
    torch.set_num_threads(choice["value"])
    try:
        yield {"threads": choice}
    finally:
        torch.set_num_threads(before)


def chosen_threads(auto: Mapping[str, Any]) -> dict[str, Any]:
    """Number of threads and the reason, as {"value", "why"}; auto: the member's `auto` so far."""
    set_variables = [name for name in THREAD_VARIABLES if name in os.environ]
    if set_variables:
        return {"value": torch.get_num_threads(), "why": f"{set_variables[0]} is set"}
    cores = joblib.cpu_count()
    if "threads" in auto and auto["threads"]["value"] <= cores:
        return dict(auto["threads"])
    busy = busy_cores()
    return {"value": threads(cores, busy), "why": f"other processes use {busy:.1f} of {cores} cores"}


def threads(cores: int, busy: float) -> int:
    """Number of threads: the idle cores, at least half of all: the system gives every process its share."""
    return max(round(cores - busy), (cores + 1) // 2)


def busy_cores(window: float = BUSY_WINDOW) -> float:
    """Mean number of cores used by the other visible processes during `window` seconds."""
    before, started = _times(), time.perf_counter()
    time.sleep(window)
    after, seconds = _times(), time.perf_counter() - started
    return sum(max(0.0, spent - before[pid]) for pid, spent in after.items() if pid in before) / seconds


def _times() -> dict[int, float]:
    """CPU seconds by process id, without this process."""
    times = {}
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid():
                spent = process.cpu_times()
                times[process.pid] = spent.user + spent.system
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return times


DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
PAIRS = (
    ("float32", "default"),
    ("float32", "channels_last"),
    ("bfloat16", "channels_last"),
    ("float16", "channels_last"),
)


@dataclass(frozen=True)
class ComputeFormat:
    """Numeric format of a network.

    precision: float32, bfloat16 or float16.  layout: default or channels_last.  why: requested, or measured.
    compiled: whether torch.compile is used.  speed: training images per second if measured.
    graphed: whether a step is a CUDA graph, if the batch is not split and the network allows it.
    """

    precision: str
    layout: str
    why: str
    compiled: bool = False
    graphed: bool = False
    speed: float | None = None

    def facts(self) -> dict[str, Any]:
        """The fields as recorded in run.json."""
        return asdict(self)

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> ComputeFormat:
        """The format that `facts` wrote, by this version or by a newer one with more keys."""
        return cls(**{field.name: facts[field.name] for field in fields(cls) if field.name in facts})


def pairs(precision: str, layout: str, device: torch.device) -> list[tuple[str, str]]:
    """Pairs of precision and layout that a recipe's two keys allow on a device; at least one.

    `auto` excludes float16 on a CPU, which only emulates it, and bfloat16 on a GPU that lacks it.
    """
    if layout == "auto":
        candidates = [pair for pair in PAIRS if precision in ("auto", pair[0])]
    else:
        candidates = [(name, layout) for name in DTYPES if precision in ("auto", name)]
    return [pair for pair in candidates if precision != "auto" or pair[0] in _native(device)]


def _native(device: torch.device) -> tuple[str, ...]:
    if device.type == "cuda":
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("float32", "bfloat16", "float16") if has_bfloat16 else ("float32", "float16")
    return ("float32", "bfloat16") if device.type == "cpu" else ("float32",)


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile works: it needs a C++ compiler on a CPU, Triton on a GPU."""
    if device.type == "cpu":
        return any(shutil.which(name) for name in ("g++", "clang++", "cl"))
    if device.type != "cuda":
        return False
    from importlib.util import find_spec

    return find_spec("triton") is not None


def forget_compiled() -> None:
    """Drop the compiled code of earlier networks: torch caches only a few versions of each function."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


def apply_format(network: Network, compute_format: ComputeFormat) -> None:
    """Set the network's precision, memory layout, compilation and CUDA graphs."""
    network.compute_dtype = DTYPES[compute_format.precision]
    network.channels_last = compute_format.layout == "channels_last"
    network.to(memory_format=torch.channels_last if network.channels_last else torch.contiguous_format)
    network.compiled, network.graphed = compute_format.compiled, compute_format.graphed
    network.forget_graphs()
