"""Functions applied to many items by threads or processes, and how OpenMP's threads wait.

A thread that is done waits for the others in a loop that keeps its core busy, by default for milliseconds. Where
another process has one of the cores, the thread that is waited for does not run, and the loop takes its time.
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

TRIED = 32
"""Items that are done one after the other first, to see how long one takes."""
WORTH = 0.001
"""Seconds of an item below which threads only wait for each other, as Python runs one at a time: 60,000 images of
32 pixels took 17 s by four threads on two cores, and 7 s by one."""
ROUND = 512
"""What all threads are given at a time: an interruption waits for no more."""


def threaded(function: Callable[[S], T], items: Sequence[S], threads: int) -> Iterator[T]:
    """`function` of each of `items`, in order. Raises what it raises."""
    times: list[float] = []
    for item in items[:TRIED]:
        started = time.perf_counter()
        done = function(item)
        times.append(time.perf_counter() - started)
        yield done
    rest = items[TRIED:]
    if not rest:
        return
    if statistics.median(times) < WORTH:
        yield from map(function, rest)
        return
    with ThreadPoolExecutor(threads) as pool:
        for begin in range(0, len(rest), ROUND):
            yield from pool.map(function, rest[begin : begin + ROUND])


ENOUGH = 20_000
"""Images for which it is worth the second that a process needs to begin."""
PART = 1000
"""Images that a process is given at a time."""


def in_parts(function: Callable[[Any], T], images: Any) -> Iterator[tuple[int, T]]:
    """(images done, `function` of a part) for each part of `images`, a sequence or an array, in order.

    function: a plain one of a module, or a partial of one, so that other processes can be sent it.
    """
    ends = range(PART, len(images) + PART, PART)
    parts = (images[end - PART : end] for end in ends)
    done = (min(end, len(images)) for end in ends)
    workers = os.cpu_count() or 1
    if len(images) < ENOUGH or workers == 1:
        yield from zip(done, map(function, parts), strict=True)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _one_thread) as pool:
        yield from zip(done, pool.map(function, parts), strict=True)


def _one_thread() -> None:
    """A process for each core leaves none for the threads of BLAS."""
    threadpool_limits(limits=1, user_api="blas")


VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""What decides how GNU's OpenMP waits, which torch's wheels bring; a user who sets one of them is not overruled."""
ROUNDS = 1_000
"""Rounds of that loop before a thread sleeps: what libgomp has for more threads than cores; else it has 300,000."""


def wait_briefly() -> None:
    """Set the variable, which counts where torch is not loaded yet; child processes inherit it."""
    if "torch" not in sys.modules and not any(name in os.environ for name in VARIABLES):
        os.environ["GOMP_SPINCOUNT"] = str(ROUNDS)
