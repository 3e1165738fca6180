"""The same small thing done to many images by all cores: what Python itself does, threads do one after another."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

T = TypeVar("T")

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
