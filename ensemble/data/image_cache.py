"""The squares of a data set's images by row: looked up in a store, or decoded each time where none may be kept.

A store is named by what is in it: the content of the images, the size, the resize mode and what decodes. Members,
folds, refits and predictions that need the same squares share it; other content has another name.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image
from PIL import __version__ as pillow

from ensemble.core.errors import DataError, EnsError, RecipeError, one_line
from ensemble.core.files import sha256_json
from ensemble.core.predictions import Ints
from ensemble.data.cache_store import StoreFile, make, make_room
from ensemble.data.dataset import Dataset
from ensemble.data.file_hashes import Progress
from ensemble.data.load import Note
from ensemble.data.preprocess import Pixels, Preprocess

_DECODER = 1
"""Raised when the same file gives other pixels than before."""


class PreprocessedImages(Protocol):
    """The squares of some images, by row."""

    @property
    def square(self) -> Preprocess:
        """What is made of every image."""

    def rows(self, paths: Sequence[str]) -> Ints:
        """The row of every path, int64 (n,)."""

    def take(self, rows: Ints) -> Pixels:
        """uint8 (n, size, size, 3), a copy. Raises DataError."""


@dataclass(frozen=True)
class StreamedImages:
    """Squares that are decoded whenever they are asked for, by threads."""

    square: Preprocess
    open_image: Callable[[str], Image.Image]
    paths: tuple[str, ...]

    def rows(self, paths: Sequence[str]) -> Ints:
        """The row of every path, int64 (n,)."""
        places = {path: row for row, path in enumerate(self.paths)}
        return np.array([places[path] for path in paths], np.int64)

    def take(self, rows: Ints) -> Pixels:
        """uint8 (n, size, size, 3). Raises DataError for an image that cannot be read any more."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return np.stack(list(pool.map(self._square, (self.paths[row] for row in rows.tolist()))))

    def _square(self, path: str) -> Pixels:
        return self.square.of(self.open_image(path))


@dataclass(frozen=True)
class StoredImages:
    """Squares in a memory-mapped file: only what is looked at is read, and memory is the system's to take back.

    pixels: uint8 (rows, size, size, 3).  places: path -> row; copies of an image share one.
    """

    square: Preprocess
    pixels: Pixels
    places: Mapping[str, int]

    def rows(self, paths: Sequence[str]) -> Ints:
        """The row of every path, int64 (n,)."""
        return np.array([self.places[path] for path in paths], np.int64)

    def take(self, rows: Ints) -> Pixels:
        """uint8 (n, size, size, 3), a copy."""
        return np.asarray(self.pixels[rows])


def open_images(
    dataset: Dataset,
    splits: Sequence[str],
    squares: Sequence[Preprocess],
    folder: Path,
    progress: Progress | None = None,
    note: Note = lambda line: None,
) -> list[PreprocessedImages]:
    """The squares of all images of `splits`, one entry for each of `squares`.

    Stores that are in `folder` and whole are opened. The others are made, all of them while each image is decoded
    once. progress: called with (images done, images).  note: told why nothing is stored.
    Raises DataError for an image that cannot be read, RecipeError for a limit that is no number.
    """
    paths = tuple(dict.fromkeys(path for split in splits for path in dataset.splits[split].paths.tolist()))
    order = sorted({dataset.content[path] for path in paths})
    places = {digest: row for row, digest in enumerate(order)}
    rows = {path: places[dataset.content[path]] for path in paths}
    first = {row: path for path, row in reversed(rows.items())}
    files = {square: StoreFile(folder, key(dataset, order, square), square, len(order)) for square in squares}
    opened = {square: file.opened() for square, file in files.items()}
    if any(pixels is None for pixels in opened.values()):
        why = ""
        try:
            with _one_maker(folder, note):
                # another process may have made them while this one waited
                opened |= {square: files[square].opened() for square, pixels in opened.items() if pixels is None}
                todo = [files[square] for square, pixels in opened.items() if pixels is None]
                chosen, why = make_room(folder, list(files.values()), todo) if todo else ([], "")
                if chosen:
                    make(chosen, dataset.open_image, [first[row] for row in range(len(order))], progress)
                    opened |= {file.square: file.mapped() for file in chosen}
        except (DataError, RecipeError):
            raise
        except EnsError as error:
            why = str(error)
        if why:
            note(f"images are decoded again in every epoch: {why}")
    return [
        StreamedImages(square, dataset.open_image, paths) if pixels is None else StoredImages(square, pixels, rows)
        for square, pixels in ((square, opened[square]) for square in squares)
    ]


@contextlib.contextmanager
def _one_maker(folder: Path, note: Note) -> Iterator[None]:
    """Only one process at a time decodes and makes room; the others wait, and then find what they want."""
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            note("waiting for another process, which decodes images")
            lock.acquire()
    except OSError as error:
        raise EnsError(f"cannot write {one_line(folder)}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def key(dataset: Dataset, content: Sequence[str], square: Preprocess) -> str:
    """The name of the store of images with the digests `content`, in their order."""
    made = [square.size, square.resize, *([square.facts] if square.filters else [])]
    return sha256_json([_DECODER, pillow, dataset.background, *made, list(content)])[:24]
