"""Batches of images as one look-up: from a store in memory or on the device, or decoded a batch ahead."""

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

DEVICE_SHARE = 0.4
"""Of the memory of a GPU, what the squares of one size may take; the rest is for the network."""
AHEAD = 2
"""Batches that are decoded while the network computes."""


class Images(Protocol):
    """Images by row, in batches."""

    @property
    def slow(self) -> bool:
        """Whether a batch takes so long that it should be made while the network computes the one before."""

    @property
    def device(self) -> torch.device:
        """Where batches are made."""

    def rows(self, paths: Sequence[str]) -> Ints:
        """The row of every path, int64 (n,)."""

    def batch(self, rows: Ints) -> Tensor:
        """uint8 (n, 3, size, size), channels last in memory. Raises DataError."""


@dataclass(frozen=True)
class CachedImages:
    """Batches copied from `squares` in the computer's memory, on its disk, or decoded now."""

    squares: PreprocessedImages

    @property
    def slow(self) -> bool:
        """Whether images are decoded now."""
        return not isinstance(self.squares, StoredImages)

    @property
    def device(self) -> torch.device:
        """The processor."""
        return torch.device("cpu")

    def rows(self, paths: Sequence[str]) -> Ints:
        """The row of every path, int64 (n,)."""
        return self.squares.rows(paths)

    def batch(self, rows: Ints) -> Tensor:
        """uint8 (n, 3, size, size), channels last in memory. Raises DataError."""
        return torch.from_numpy(self.squares.take(rows)).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class DeviceImages:
    """All squares on a GPU. pixels: uint8 (rows, size, size, 3) there."""

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
    """One black pixel for every image, where nobody looks at them."""

    slow: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def rows(self, paths: Sequence[str]) -> Ints:
        """No row differs from another: zeros, int64 (n,)."""
        return np.zeros(len(paths), np.int64)

    def batch(self, rows: Ints) -> Tensor:
        """uint8 (n, 3, 1, 1)."""
        return torch.zeros(len(rows), 3, 1, 1, dtype=torch.uint8, device=self.device)


def to_device(rows: Ints, device: torch.device) -> Tensor:
    """int64 (n,) on a device. Through memory that a GPU reads by itself, or it would be waited for."""
    there = torch.from_numpy(rows)
    return there.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else there.to(device)


def device_images(squares: PreprocessedImages, device: torch.device, taken: int) -> DeviceImages | None:
    """All of `squares` in the memory of a GPU; None for other devices, and where they would take too much of it.

    taken: bytes that other squares take there.
    """
    if device.type != "cuda" or not isinstance(squares, StoredImages):
        return None
    free, total = torch.cuda.mem_get_info(device)
    wanted = squares.pixels.nbytes
    if taken + wanted > DEVICE_SHARE * total or wanted > free // 2:
        return None
    return DeviceImages(squares, torch.from_numpy(squares.pixels).to(device))


def ahead(make: Callable[[], Iterable[T]], count: int = AHEAD) -> Iterator[T]:
    """What `make` gives, made by another thread up to `count` entries before it is asked for, in the same order.

    An error is raised where its entry would have come.
    """
    made: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(count)
    stopped = threading.Event()

    def put(entry: tuple[T | None, BaseException | None]) -> None:
        while not stopped.is_set():
            try:
                made.put(entry, timeout=0.1)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            for entry in make():
                put((entry, None))
                if stopped.is_set():
                    return
            put((None, StopIteration()))
        except BaseException as error:
            put((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            entry, error = made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield entry  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
