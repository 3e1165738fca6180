"""A function of many files, by threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")

PART = 16
"""What a thread is given at a time: handing over each small image alone takes as long as decoding it."""
ROUND = 512
"""What all threads are given at a time: an interruption waits for no more."""


def threaded(function: Callable[[S], T], items: Sequence[S], threads: int) -> Iterator[T]:
    """`function` of each of `items`, in order. Raises what it raises."""
    size = max(1, min(PART, len(items) // threads))

    def part(start: int) -> list[T]:
        return [function(item) for item in items[start : start + size]]

    with ThreadPoolExecutor(threads) as pool:
        for begin in range(0, len(items), ROUND - ROUND % size):
            end = min(begin + ROUND - ROUND % size, len(items))
            for done in pool.map(part, range(begin, end, size)):
                yield from done
