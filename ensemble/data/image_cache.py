"""The preprocessed images of a data set by row, from a cache file, or decoded each time if caching is not possible.

The name of a cache file is a hash of the content of the images, the transform and the version of the decoder.
Members, folds, refits and predictions with the same transform share it.
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
from ensemble.data.cache_store import StoreFile, make_room, write_files
from ensemble.data.dataset import Dataset
from ensemble.data.file_hashes import Progress
from ensemble.data.load import Note
from ensemble.data.preprocess import Pixels, Preprocess

_DECODER_VERSION = 1
"""Incremented when decoding a file gives other pixels than before."""


class PreprocessedImages(Protocol):
    """Preprocessed images by row."""

    @property
    def transform(self) -> Preprocess:
        """The transform that was applied to every image."""

    def rows(self, paths: Sequence[str]) -> Ints:
        """The row of every path, int64 (n,)."""

    def take(self, rows: Ints) -> Pixels:
        """uint8 (n, size, size, 3), a copy. Raises DataError."""


@dataclass(frozen=True)
class StreamedImages:
    """Images that are decoded on each access, by threads."""

    transform: Preprocess
    open_image: Callable[[str], Image.Image]
    paths: tuple[str, ...]

    def rows(self, paths: Sequence[str]) -> Ints:
        """The row of every path, int64 (n,)."""
        row_by_path = {path: row for row, path in enumerate(self.paths)}
        return np.array([row_by_path[path] for path in paths], np.int64)

    def take(self, rows: Ints) -> Pixels:
        """uint8 (n, size, size, 3). Raises DataError for an image that can no longer be read."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return np.stack(list(pool.map(self._transformed, (self.paths[row] for row in rows.tolist()))))

    def _transformed(self, path: str) -> Pixels:
        return self.transform.of(self.open_image(path))


@dataclass(frozen=True)
class StoredImages:
    """Images in a memory-mapped file, of which the accessed pages are read and the system may reclaim the memory.

    pixels: uint8 (rows, size, size, 3).  row_by_path: path -> row; identical images share a row.
    """

    transform: Preprocess
    pixels: Pixels
    row_by_path: Mapping[str, int]

    def rows(self, paths: Sequence[str]) -> Ints:
        """The row of every path, int64 (n,)."""
        return np.array([self.row_by_path[path] for path in paths], np.int64)

    def take(self, rows: Ints) -> Pixels:
        """uint8 (n, size, size, 3), a copy."""
        return np.asarray(self.pixels[rows])


def open_images(
    dataset: Dataset,
    splits: Sequence[str],
    transforms: Sequence[Preprocess],
    folder: Path,
    progress: Progress | None = None,
    note: Note = lambda line: None,
) -> list[PreprocessedImages]:
    """The preprocessed images of `splits`, one entry for each of `transforms`.

    Valid cache files in `folder` are opened. The others are written together, so that each image is decoded once.
    progress: called with (images done, images).  note: called with the reason if nothing is cached.
    Raises DataError for an image that cannot be read, RecipeError for a limit that is not a number.
    """
    paths = tuple(dict.fromkeys(path for split in splits for path in dataset.splits[split].paths.tolist()))
    digests = sorted({dataset.content[path] for path in paths})
    row_by_digest = {digest: row for row, digest in enumerate(digests)}
    row_by_path = {path: row_by_digest[dataset.content[path]] for path in paths}
    path_by_row = {row: path for path, row in reversed(row_by_path.items())}
    files = {
        transform: StoreFile(folder, cache_key(dataset, digests, transform), transform, len(digests))
        for transform in transforms
    }
    opened = {transform: file.opened() for transform, file in files.items()}
    if any(pixels is None for pixels in opened.values()):
        paths_by_row = [path_by_row[row] for row in range(len(digests))]
        opened |= _written(dataset, files, opened, paths_by_row, progress, note)
    dataset.decoded.forget(digests)
    return [
        StreamedImages(transform, dataset.open_image, paths)
        if pixels is None
        else StoredImages(transform, pixels, row_by_path)
        for transform, pixels in ((transform, opened[transform]) for transform in transforms)
    ]


def _written(
    dataset: Dataset,
    files: Mapping[Preprocess, StoreFile],
    opened: Mapping[Preprocess, Pixels | None],
    paths: Sequence[str],
    progress: Progress | None,
    note: Note,
) -> dict[Preprocess, Pixels | None]:
    """The files that were not open, now written, as far as the disk allows.  paths: in the order of the rows."""
    missing = [files[transform] for transform, pixels in opened.items() if pixels is None]
    result: dict[Preprocess, Pixels | None] = {}
    reason = ""
    try:
        with _writer_lock(missing[0].folder, note):
            # another process may have written them while this one waited
            result |= {file.transform: file.opened() for file in missing}
            todo = [file for file in missing if result[file.transform] is None]
            chosen, reason = make_room(missing[0].folder, list(files.values()), todo) if todo else ([], "")
            if chosen:
                write_files(chosen, _pixels_of(dataset, chosen), paths, progress)
                result |= {file.transform: file.mapped() for file in chosen}
    except (DataError, RecipeError):
        raise
    except EnsError as error:
        reason = str(error)
    if reason:
        note(f"images are decoded again in every epoch: {reason}")
    return result


def _pixels_of(dataset: Dataset, files: Sequence[StoreFile]) -> Callable[[str], list[Pixels]]:
    """A function path -> the pixels of its image for each file, decoded now unless they are kept."""
    transforms = [file.transform for file in files]

    def pixels_of(path: str) -> list[Pixels]:
        kept = dataset.decoded.take(dataset.content[path], transforms)
        if kept is not None:
            return kept
        image = dataset.open_image(path)
        return [transform.of(image) for transform in transforms]

    return pixels_of


@contextlib.contextmanager
def _writer_lock(folder: Path, note: Note) -> Iterator[None]:
    """Lock, so that only one process at a time writes cache files; the others wait and then use its files."""
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


def cache_key(dataset: Dataset, content: Sequence[str], transform: Preprocess) -> str:
    """The name of the cache file of images with the digests `content`, in their order."""
    settings = [transform.size, transform.resize, *([transform.parameters] if transform.filters else [])]
    return sha256_json([_DECODER_VERSION, pillow, dataset.background, *settings, list(content)])[:24]
