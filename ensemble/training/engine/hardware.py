"""The device, the threads and the numeric format that train.

A step takes as long as its slowest thread, and one that shares its core with another process is slow.
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
    """The device called `name` (`cpu`, `cuda`, `cuda:1`, `mps`), or the best there is. Raises RecipeError."""
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
    """`cuda (NVIDIA H200)`, `cpu (2 threads)`."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} threads)"
    return str(device)


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


DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
PAIRS = (
    ("float32", "default"),
    ("float32", "channels_last"),
    ("bfloat16", "channels_last"),
    ("float16", "channels_last"),
)


@dataclass(frozen=True)
class ComputeFormat:
    """precision: float32, bfloat16 or float16.  layout: default or channels_last.  why: asked for, or measured.

    compiled: whether torch.compile makes the network's code.  speed: training images a second where measured.
    graphed: whether a step is a CUDA graph, where the batch is taken as a whole and the network allows it.
    """

    precision: str
    layout: str
    why: str
    compiled: bool = False
    graphed: bool = False
    speed: float | None = None

    def facts(self) -> dict[str, Any]:
        """What a run records."""
        return asdict(self)

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> ComputeFormat:
        """What `facts` wrote, by this version or a newer one that knows more keys."""
        return cls(**{field.name: facts[field.name] for field in fields(cls) if field.name in facts})


def pairs(precision: str, layout: str, device: torch.device) -> list[tuple[str, str]]:
    """The pairs of precision and layout that a recipe's two keys leave on a device; at least one.

    `auto` never means float16 on a processor, which only pretends to have it, nor bfloat16 on a GPU without it.
    """
    if layout == "auto":
        wanted = [pair for pair in PAIRS if precision in ("auto", pair[0])]
    else:
        wanted = [(name, layout) for name in DTYPES if precision in ("auto", name)]
    return [pair for pair in wanted if precision != "auto" or pair[0] in _native(device)]


def _native(device: torch.device) -> tuple[str, ...]:
    if device.type == "cuda":
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("float32", "bfloat16", "float16") if has_bfloat16 else ("float32", "float16")
    return ("float32", "bfloat16") if device.type == "cpu" else ("float32",)


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile has what it needs: a compiler of C++ on a processor, Triton on a GPU."""
    if device.type == "cpu":
        return any(shutil.which(name) for name in ("g++", "clang++", "cl"))
    if device.type != "cuda":
        return False
    from importlib.util import find_spec

    return find_spec("triton") is not None


def forget_compiled() -> None:
    """Drop the code of networks that are done with: torch keeps a few versions of one function, then no more."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


def apply_format(network: Network, chosen: ComputeFormat) -> None:
    """Set the network's precision, lay its weights out, and have its code made where that was chosen."""
    network.compute_dtype = DTYPES[chosen.precision]
    network.channels_last = chosen.layout == "channels_last"
    network.to(memory_format=torch.channels_last if network.channels_last else torch.contiguous_format)
    network.compiled, network.graphed = chosen.compiled, chosen.graphed
    network.forget_graphs()
