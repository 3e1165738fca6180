"""One memory-mapped file of squares, checked by sums, and the room that all such files may take."""

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
from PIL import Image

from ensemble.core.errors import DataError, RecipeError
from ensemble.core.files import read_json, replacing, write_json
from ensemble.core.parallel import threaded
from ensemble.data.file_hashes import Progress
from ensemble.data.preprocess import Pixels, Preprocess

LIMIT_VARIABLE, LIMIT_GB = "ENS_STORE_GB", 64.0
"""What all stores of a runs folder may take together; 0 stores nothing."""
SPARE = 1 << 30
"""Bytes of the disk that are left alone."""
STALE = 3600.0
"""Seconds after which a file that nobody writes to was left by a process that is gone."""
CHUNK = 64 << 20
"""Bytes that are checked, and written, at a time."""


@dataclass(frozen=True)
class StoreFile:
    """`<key>.u8`, the squares, and `<key>.json`, which says how they lie and what their checksums are."""

    folder: Path
    key: str
    square: Preprocess
    count: int

    @property
    def path(self) -> Path:
        """The squares."""
        return self.folder / f"{self.key}.u8"

    @property
    def facts_path(self) -> Path:
        """How they lie."""
        return self.folder / f"{self.key}.json"

    @property
    def bytes(self) -> int:
        """Of all squares."""
        return self.count * self.square.bytes

    def facts(self, sums: list[str]) -> dict[str, Any]:
        """What `facts_path` says. sums: sha256 of each chunk."""
        return {"schema": 1, "rows": self.count, **self.square.facts, "chunk": CHUNK, "sha256": sums}

    def opened(self) -> Pixels | None:
        """uint8 (count, size, size, 3), read from the disk where it is looked at; None unless it is as written."""
        try:
            facts = read_json(self.facts_path)
            sums = facts["sha256"]
            if facts != self.facts(sums) or self.path.stat().st_size != self.bytes:
                return None
            pixels = self.mapped()
            content = pixels.reshape(-1)
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                found = list(
                    pool.map(lambda place: _sum(content[place : place + CHUNK]), range(0, self.bytes, CHUNK))
                )
        except (DataError, OSError, KeyError, TypeError):
            return None
        if found != sums:
            return None
        with contextlib.suppress(OSError):
            self.facts_path.touch()  # so that what is not used is the first to go
        return pixels

    def mapped(self) -> Pixels:
        """The same without a look at it."""
        side = self.square.size
        # copy-on-write rather than read-only, of which torch would warn
        return np.memmap(self.path, np.uint8, "c", shape=(self.count, side, side, 3))


def _sum(content: Any) -> str:
    return hashlib.sha256(content).hexdigest()


class _Writer:
    """Appends squares to a file, and sums its chunks up."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.held = bytearray()
        self.sums: list[str] = []

    def add(self, pixels: Pixels) -> None:
        self.held += pixels.tobytes()
        while len(self.held) >= CHUNK:
            self.flush(CHUNK)

    def flush(self, count: int) -> None:
        """Write the first `count` bytes of what is held."""
        part = bytes(self.held[:count])
        del self.held[:count]
        self.sums.append(_sum(part))
        self.file.write(part)


def make(
    files: Sequence[StoreFile],
    open_image: Callable[[str], Image.Image],
    paths: Sequence[str],
    progress: Progress | None,
) -> None:
    """Decode every image once and write it into all `files`.

    paths: in the order of the rows.  progress: called with (images done, images).
    Raises DataError for an image that cannot be read, EnsError when the disk refuses.
    """
    wanted = [file.square for file in files]

    def squares(path: str) -> list[Pixels]:
        image = open_image(path)
        return [square.of(image) for square in wanted]

    with contextlib.ExitStack() as stack:
        writers = [_Writer(stack.enter_context(replacing(file.path))) for file in files]
        for done, row in enumerate(threaded(squares, paths, os.cpu_count() or 1), 1):
            for writer, pixels in zip(writers, row, strict=True):
                writer.add(pixels)
            if progress:
                progress(done, len(paths))
        for writer in writers:
            if writer.held:
                writer.flush(len(writer.held))
    # last, so that squares without sums are squares that were not finished
    for file, writer in zip(files, writers, strict=True):
        write_json(file.facts_path, file.facts(writer.sums))


def make_room(folder: Path, used: Sequence[StoreFile], todo: Sequence[StoreFile]) -> tuple[list[StoreFile], str]:
    """Those of `todo` that may be stored, the small ones first, and why the others may not.

    Stores that are not `used` make room, those first that were not used for longest. Raises RecipeError.
    """
    limit, free = _limit(), _free(folder)
    others = _others(folder, {file.key for file in used})
    available = free + sum(others.values()) - SPARE
    kept = sum(file.bytes for file in used if file not in todo)
    chosen: list[StoreFile] = []
    why = ""
    for file in sorted(todo, key=lambda file: file.bytes):
        wanted = sum(one.bytes for one in (*chosen, file))
        if kept + wanted > limit:
            why = f"{_size(kept + wanted)} of squares are above the limit of {_size(limit)} ({LIMIT_VARIABLE})"
            break
        if wanted > available:
            why = f"{_size(wanted)} of squares do not fit on a disk with {_size(free)} left"
            break
        chosen.append(file)
    wanted = sum(file.bytes for file in chosen)
    _remove(folder, others, limit - kept - wanted, wanted + SPARE - free)
    return chosen, why


def _others(folder: Path, used: Collection[str]) -> dict[str, int]:
    """The bytes of each store that is not used now, the one first that was not used for longest."""
    found: dict[str, tuple[float, int]] = {}
    for path in folder.glob("*.u8"):
        if path.stem not in used:
            with contextlib.suppress(OSError):  # another process may be removing it
                facts = path.with_suffix(".json")
                found[path.stem] = (facts.stat().st_mtime if facts.is_file() else 0.0, path.stat().st_size)
    return {key: size for key, (_, size) in sorted(found.items(), key=lambda entry: entry[1])}


def _remove(folder: Path, others: dict[str, int], room: float, missing: float) -> None:
    """Remove `others` until the rest takes `room` bytes at most and `missing` bytes more are free on the disk."""
    for key, size in list(others.items()):
        if sum(others.values()) <= room and missing <= 0:
            break
        for path in (folder / f"{key}.u8", folder / f"{key}.json"):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        del others[key]
        missing -= size
    for left in folder.glob(".*.tmp"):  # of a process that was killed, unless somebody still writes to it
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink()


def _free(folder: Path) -> int:
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    return shutil.disk_usage(there).free


def _limit() -> float:
    """Bytes. Raises RecipeError."""
    text = os.environ.get(LIMIT_VARIABLE, str(LIMIT_GB))
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise RecipeError(f"{LIMIT_VARIABLE} is {text!r}; a number of gigabytes is expected, 0 to store nothing")
    return value * 1e9


def _size(count: float) -> str:
    """Bytes in a unit that leaves a number to read."""
    unit, name = next(((unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB")) if count >= unit), (1e3, "kB"))
    return f"{count / unit:.1f} {name}"
