"""Batches of images by row: from a store in memory or on the device, or decoded one batch ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from ensemble.core.predictions import Ints
from ensemble.data.image_cache import PreprocessedImages, StoredImages

T = TypeVar("T")

DEVICE_MEMORY_SHARE = 0.4
"""The share of a GPU's memory for the squares of one size; the rest is for the network."""
PREFETCHED = 2
"""The number of batches that are decoded while the network computes."""


class Images(Protocol):
    """Batches of images, selected by row."""

    @property
    def slow(self) -> bool:
        """Whether batches are slow enough to be prefetched while the network computes."""

    @property
    def device(self) -> torch.device:
        """The device of the batches."""

    def rows(self, paths: Sequence[str]) -> Ints:
        """The row of every path, int64 (n,)."""

    def batch(self, rows: Ints) -> Tensor:
        """uint8 (n, 3, size, size), channels last in memory. Raises DataError."""


@dataclass(frozen=True)
class CachedImages:
    """Batches copied from `squares`, which are in memory, on disk, or decoded on access."""

    squares: PreprocessedImages

    @property
    def slow(self) -> bool:
        """Whether images are decoded on access."""
        return not isinstance(self.squares, StoredImages)

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def rows(self, paths: Sequence[str]) -> Ints:
        """The row of every path, int64 (n,)."""
        return self.squares.rows(paths)

    def batch(self, rows: Ints) -> Tensor:
        """uint8 (n, 3, size, size), channels last in memory. Raises DataError."""
        return torch.from_numpy(self.squares.take(rows)).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class DeviceImages:
    """All squares in a GPU's memory. pixels: uint8 (rows, size, size, 3) on the GPU."""

    squares: PreprocessedImages
    pixels: Tensor
    slow: bool = False

    @property
    def device(self) -> torch.device:
        """The GPU."""
        return self.pixels.device

    def rows(self, paths: Sequence[str]) -> Ints:
        """The row of every path, int64 (n,)."""
        return self.squares.rows(paths)

    def batch(self, rows: Ints) -> Tensor:
        """uint8 (n, 3, size, size) on the device, channels last in memory."""
        return self.pixels[to_device(rows, self.pixels.device)].permute(0, 3, 1, 2)


@dataclass(frozen=True)
class PlaceholderImages:
    """Placeholder images of one black pixel, used when cached features replace the images."""

    slow: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def rows(self, paths: Sequence[str]) -> Ints:
        """Zeros, int64 (n,): all images are the same."""
        return np.zeros(len(paths), np.int64)

    def batch(self, rows: Ints) -> Tensor:
        """uint8 (n, 3, 1, 1)."""
        return torch.zeros(len(rows), 3, 1, 1, dtype=torch.uint8, device=self.device)


def to_device(rows: Ints, device: torch.device) -> Tensor:
    """int64 (n,) on a device. Copied from pinned memory to a GPU, so that the CPU does not wait."""
    indices = torch.from_numpy(rows)
    return indices.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else indices.to(device)


def device_images(squares: PreprocessedImages, device: torch.device, taken: int) -> DeviceImages | None:
    """All of `squares` in the memory of a GPU; None for other devices and where they need too much of it.

    taken: bytes that other squares occupy there.
    """
    if device.type != "cuda" or not isinstance(squares, StoredImages):
        return None
    free, total = torch.cuda.mem_get_info(device)
    needed = squares.pixels.nbytes
    if taken + needed > DEVICE_MEMORY_SHARE * total or needed > free // 2:
        return None
    return DeviceImages(squares, torch.from_numpy(squares.pixels).to(device))


def prefetched(make: Callable[[], Iterable[T]], count: int = PREFETCHED) -> Iterator[T]:
    """The entries of `make()`, produced by another thread up to `count` entries in advance, in the same order.

    An error is raised at the position of its entry.
    """
    entries: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(count)
    stopped = threading.Event()

    def put(entry: tuple[T | None, BaseException | None]) -> None:
        while not stopped.is_set():
            try:
                entries.put(entry, timeout=0.1)
            except queue.Full:
                continue
            return

    def produce() -> None:
        try:
            for entry in make():
                put((entry, None))
                if stopped.is_set():
                    return
            put((None, StopIteration()))
        except BaseException as error:
            put((None, error))

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    try:
        while True:
            entry, error = entries.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield entry  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
