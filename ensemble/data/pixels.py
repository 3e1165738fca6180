"""Images as the network's square of pixels: opened, resized and kept, so that an epoch decodes nothing twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ensemble.data.dataset import Dataset
from ensemble.registry import Registry

Pixels = npt.NDArray[np.uint8]
Resize = Callable[[Image.Image, int], Image.Image]

KEEP_BYTES = 4 << 30
"""Squares are kept in memory up to this many bytes; beyond it they are opened again each time."""

resizes: Registry[Resize] = Registry("resize mode")


@resizes.register("squash")
def squash(image: Image.Image, size: int) -> Image.Image:
    """The whole image, its sides scaled to `size` each on its own: nothing lost, proportions changed."""
    return image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0)


@resizes.register("crop")
def crop(image: Image.Image, size: int) -> Image.Image:
    """The largest square in the middle: proportions kept, margins lost."""
    return ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)


@resizes.register("pad")
def pad(image: Image.Image, size: int) -> Image.Image:
    """The whole image, proportions kept, black bars on the shorter side."""
    return ImageOps.pad(image, (size, size), Image.Resampling.BILINEAR)


@dataclass(frozen=True)
class SquareReader:
    """path -> uint8 (size, size, 3). A plain value, so that loader processes can receive it under spawn."""

    open_image: Callable[[str], Image.Image]
    size: int
    resize: str

    def __call__(self, path: str) -> Pixels:
        """The pixels of one image. Raises DataError."""
        return np.asarray(resizes.get(self.resize)(self.open_image(path), self.size))


class PixelStore:
    """The squares of many images of a data set, in memory where they fit.

    Members that ask for the same size and resize mode share one store, so the images are read once.
    """

    def __init__(self, dataset: Dataset, size: int, resize: str) -> None:
        self.reader = SquareReader(dataset.open_image, size, resize)
        self._squares: dict[str, Pixels] = {}
        self._bytes_each = size * size * 3

    def hold(self, paths: Sequence[str], progress: Callable[[int, int], None] | None = None) -> bool:
        """Read all of `paths` in parallel and keep them. False when they would not fit, and then none is kept."""
        todo = [path for path in dict.fromkeys(paths) if path not in self._squares]
        if (len(self._squares) + len(todo)) * self._bytes_each > KEEP_BYTES:
            return False
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for done, (path, square) in enumerate(zip(todo, pool.map(self.reader, todo), strict=True), 1):
                self._squares[path] = square
                if progress:
                    progress(done, len(todo))
        return True

    def __call__(self, path: str) -> Pixels:
        """uint8 (size, size, 3) of one image, kept or read now. Raises DataError."""
        kept = self._squares.get(path)
        return self.reader(path) if kept is None else kept
