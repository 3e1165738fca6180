"""A memory-mapped file of preprocessed images with checksums, and the size limit of all such files."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ensemble.core.errors import DataError, RecipeError
from ensemble.core.files import read_json, replacing, write_json
from ensemble.core.parallel import threaded_map
from ensemble.data.file_hashes import Progress
from ensemble.data.preprocess import Pixels, Preprocess

LIMIT_VARIABLE, LIMIT_GB = "ENS_STORE_GB", 64.0
"""Maximum size of all cache files of a runs folder; 0 disables the cache."""
SPARE = 1 << 30
"""Bytes of the disk that are kept free."""
STALE = 3600.0
"""Age in seconds after which an unmodified temporary file is considered abandoned."""
CHUNK = 64 << 20
"""Bytes that are checked or written at a time."""


@dataclass(frozen=True)
class StoreFile:
    """`<key>.u8`, the preprocessed images, and `<key>.json`, their layout and checksums."""

    folder: Path
    key: str
    transform: Preprocess
    count: int

    @property
    def path(self) -> Path:
        """Path of the file with the pixels."""
        return self.folder / f"{self.key}.u8"

    @property
    def metadata_path(self) -> Path:
        """Path of the JSON that describes the file's layout."""
        return self.folder / f"{self.key}.json"

    @property
    def bytes(self) -> int:
        """Size of all images."""
        return self.count * self.transform.bytes

    def metadata(self, sums: list[str]) -> dict[str, Any]:
        """Content of `metadata_path`. sums: SHA-256 of each chunk."""
        return {"schema": 1, "rows": self.count, **self.transform.parameters, "chunk": CHUNK, "sha256": sums}

    def opened(self) -> Pixels | None:
        """The images, uint8 (count, size, size, 3), memory-mapped; None unless layout and checksums are valid."""
        try:
            metadata = read_json(self.metadata_path)
            sums = metadata["sha256"]
            if metadata != self.metadata(sums) or self.path.stat().st_size != self.bytes:
                return None
            pixels = self.mapped()
            content = pixels.reshape(-1)
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                actual = list(
                    pool.map(lambda start: _sha256(content[start : start + CHUNK]), range(0, self.bytes, CHUNK))
                )
        except (DataError, OSError, KeyError, TypeError):
            return None
        if actual != sums:
            return None
        with contextlib.suppress(OSError):
            self.metadata_path.touch()  # `make_room` removes the files with the oldest mtime first
        return pixels

    def mapped(self) -> Pixels:
        """`opened` without the checks."""
        side = self.transform.size
        # copy-on-write, as torch warns of read-only arrays
        return np.memmap(self.path, np.uint8, "c", shape=(self.count, side, side, 3))


def _sha256(content: Any) -> str:
    return hashlib.sha256(content).hexdigest()


class _Writer:
    """Appends images to a file and computes the checksums of its chunks."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.buffer = bytearray()
        self.sums: list[str] = []

    def add(self, pixels: Pixels) -> None:
        self.buffer += pixels.tobytes()
        while len(self.buffer) >= CHUNK:
            self.flush(CHUNK)

    def flush(self, count: int) -> None:
        """Write the first `count` bytes of the buffer."""
        chunk = bytes(self.buffer[:count])
        del self.buffer[:count]
        self.sums.append(_sha256(chunk))
        self.file.write(chunk)


def write_files(
    files: Sequence[StoreFile],
    pixels_of: Callable[[str], list[Pixels]],
    paths: Sequence[str],
    progress: Progress | None,
) -> None:
    """Write every image to all `files`.

    pixels_of: path -> the preprocessed image for each file.  paths: in the order of the rows.
    progress: called with (images done, images).
    Raises DataError for an image that cannot be read, EnsError for an error of the disk.
    """
    with contextlib.ExitStack() as stack:
        writers = [_Writer(stack.enter_context(replacing(file.path))) for file in files]
        for done, row in enumerate(threaded_map(pixels_of, paths, os.cpu_count() or 1), 1):
            for writer, pixels in zip(writers, row, strict=True):
                writer.add(pixels)
            if progress:
                progress(done, len(paths))
        for writer in writers:
            if writer.buffer:
                writer.flush(len(writer.buffer))
    # written last, so that a file without metadata is an incomplete one
    for file, writer in zip(files, writers, strict=True):
        write_json(file.metadata_path, file.metadata(writer.sums))


def make_room(folder: Path, used: Sequence[StoreFile], todo: Sequence[StoreFile]) -> tuple[list[StoreFile], str]:
    """The files of `todo` that may be written, smallest first, and why the others may not.

    Least recently used files that are not in `used` are removed to make room. Raises RecipeError.
    """
    limit, free = _limit(), _free(folder)
    unused = _unused_files(folder, {file.key for file in used})
    available = free + sum(unused.values()) - SPARE
    existing = sum(file.bytes for file in used if file not in todo)
    chosen: list[StoreFile] = []
    reason = ""
    for file in sorted(todo, key=lambda file: file.bytes):
        needed = sum(other.bytes for other in (*chosen, file))
        if existing + needed > limit:
            reason = (
                f"{_size(existing + needed)} of squares are above the limit of {_size(limit)} ({LIMIT_VARIABLE})"
            )
            break
        if needed > available:
            reason = f"{_size(needed)} of squares do not fit on a disk with {_size(free)} left"
            break
        chosen.append(file)
    needed = sum(file.bytes for file in chosen)
    _remove(folder, unused, limit - existing - needed, needed + SPARE - free)
    return chosen, reason


def _unused_files(folder: Path, used: Collection[str]) -> dict[str, int]:
    """Size in bytes of each file that is not in `used`, least recently used first."""
    files: dict[str, tuple[float, int]] = {}
    for path in folder.glob("*.u8"):
        if path.stem not in used:
            with contextlib.suppress(OSError):  # another process may be removing it
                metadata = path.with_suffix(".json")
                files[path.stem] = (metadata.stat().st_mtime if metadata.is_file() else 0.0, path.stat().st_size)
    return {key: size for key, (_, size) in sorted(files.items(), key=lambda entry: entry[1])}


def _remove(folder: Path, unused: dict[str, int], room: float, missing: float) -> None:
    """Remove files until the rest of `unused` takes at most `room` bytes and `missing` more are free on disk."""
    for key, size in list(unused.items()):
        if sum(unused.values()) <= room and missing <= 0:
            break
        for path in (folder / f"{key}.u8", folder / f"{key}.json"):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        del unused[key]
        missing -= size
    for temporary in folder.glob(".*.tmp"):  # left by a killed process, unless it was written to lately
        with contextlib.suppress(OSError):
            if time.time() - temporary.stat().st_mtime > STALE:
                temporary.unlink()


def _free(folder: Path) -> int:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    return shutil.disk_usage(existing).free


def _limit() -> float:
    """The limit in bytes. Raises RecipeError."""
    text = os.environ.get(LIMIT_VARIABLE, str(LIMIT_GB))
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise RecipeError(f"{LIMIT_VARIABLE} is {text!r}; a number of gigabytes is expected, 0 to store nothing")
    return value * 1e9


def _size(count: float) -> str:
    """A number of bytes in kB, MB or GB."""
    unit, name = next(((unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB")) if count >= unit), (1e3, "kB"))
    return f"{count / unit:.1f} {name}"
