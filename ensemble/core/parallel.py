"""Functions mapped over items by threads or processes, and the waiting policy of OpenMP threads.

By default an OpenMP thread that has finished spins for milliseconds while it waits for the others, which keeps its
core busy. If another process holds a core, the thread that the others wait for cannot run while they spin.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

S = TypeVar("S")
T = TypeVar("T")

TIMED_ITEMS = 32
"""Items that are processed sequentially first, to measure the time of one."""
MIN_THREAD_SECONDS = 0.001
"""Seconds per item below which threads do not pay, because of the GIL: 60,000 images of 32 pixels took 17 s
with four threads on two cores, and 7 s with one."""
CHUNK = 512
"""Items that are submitted to the threads at a time. An interruption waits for these only."""


def threaded_map(function: Callable[[S], T], items: Sequence[S], threads: int) -> Iterator[T]:
    """`function` of each of `items`, in order. Raises what `function` raises."""
    times: list[float] = []
    for item in items[:TIMED_ITEMS]:
        started = time.perf_counter()
        result = function(item)
        times.append(time.perf_counter() - started)
        yield result
    rest = items[TIMED_ITEMS:]
    if not rest:
        return
    if statistics.median(times) < MIN_THREAD_SECONDS:
        yield from map(function, rest)
        return
    with ThreadPoolExecutor(threads) as pool:
        for begin in range(0, len(rest), CHUNK):
            yield from pool.map(function, rest[begin : begin + CHUNK])


MIN_PROCESS_IMAGES = 20_000
"""Number of images that makes up for the second that a process takes to start."""
PART_SIZE = 1000
"""Images that a process gets at a time."""


def map_parts(function: Callable[[Any], T], images: Any) -> Iterator[tuple[int, T]]:
    """(images done, `function` of a part) for each part of `images`, a sequence or an array, in order.

    function: picklable, for use in other processes: a module-level function, or a partial of one.
    """
    ends = range(PART_SIZE, len(images) + PART_SIZE, PART_SIZE)
    parts = (images[end - PART_SIZE : end] for end in ends)
    done = (min(end, len(images)) for end in ends)
    workers = os.cpu_count() or 1
    if len(images) < MIN_PROCESS_IMAGES or workers == 1:
        yield from zip(done, map(function, parts), strict=True)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _one_thread) as pool:
        yield from zip(done, pool.map(function, parts), strict=True)


def _one_thread() -> None:
    """Limit BLAS to one thread, as there is a process for each core."""
    threadpool_limits(limits=1, user_api="blas")


WAIT_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""Environment variables that set the waiting policy of GNU OpenMP, which torch wheels include. If the user has set
one of them, it is kept."""
SPIN_COUNT = 1_000
"""Iterations of the waiting loop before a thread sleeps: libgomp's value for more threads than cores; its default
is 300,000."""


def limit_spinning() -> None:
    """Set GOMP_SPINCOUNT. It has an effect only before torch is imported; child processes inherit it."""
    if "torch" not in sys.modules and not any(name in os.environ for name in WAIT_VARIABLES):
        os.environ["GOMP_SPINCOUNT"] = str(SPIN_COUNT)
