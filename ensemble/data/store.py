"""One memory-mapped file of squares, checked by sums, and the room that all such files may take."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from ensemble.data.pixels import Pixels, Square
from ensemble.errors import DataError, RecipeError
from ensemble.files import read_json, replacing, write_json

Progress = Callable[[int, int], None]

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
    square: Square
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
        size, resize = self.square.size, self.square.resize
        return {"schema": 1, "rows": self.count, "size": size, "resize": resize, "chunk": CHUNK, "sha256": sums}

    def whole(self) -> bool:
        """Whether every byte is what was written. A store that is not is made again."""
        try:
            facts = read_json(self.facts_path)
            sums = facts["sha256"]
            if facts != self.facts(sums) or self.path.stat().st_size != self.bytes:
                return False
            content = self.mapped().reshape(-1)
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                found = list(
                    pool.map(lambda place: _sum(content[place : place + CHUNK]), range(0, self.bytes, CHUNK))
                )
        except (DataError, OSError, KeyError, TypeError):
            return False
        if found != sums:
            return False
        with contextlib.suppress(OSError):
            self.facts_path.touch()  # so that what is not used is the first to go
        return True

    def mapped(self) -> Pixels:
        """uint8 (count, size, size, 3), read from the disk where it is looked at."""
        side = self.square.size
        return np.memmap(self.path, np.uint8, "r", shape=(self.count, side, side, 3))


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
        pool = stack.enter_context(ThreadPoolExecutor(os.cpu_count()))
        done = 0
        for part in _parts(paths):
            for row in pool.map(squares, part):
                for writer, pixels in zip(writers, row, strict=True):
                    writer.add(pixels)
                done += 1
                if progress:
                    progress(done, len(paths))
        for writer in writers:
            if writer.held:
                writer.flush(len(writer.held))
    # last, so that squares without sums are squares that were not finished
    for file, writer in zip(files, writers, strict=True):
        write_json(file.facts_path, file.facts(writer.sums))


def _parts(paths: Sequence[str], count: int = 512) -> Iterator[Sequence[str]]:
    """Some images at a time: an interruption waits for no more."""
    for start in range(0, len(paths), count):
        yield paths[start : start + count]


def refusal(folder: Path, files: Sequence[StoreFile], todo: Sequence[StoreFile]) -> str | None:
    """Why `todo` may not be stored, or None; then the stores that were not used for longest have made room."""
    wanted, limit = sum(file.bytes for file in files), _limit()
    if wanted > limit:
        return f"{wanted / 1e9:.1f} GB of squares are above the limit of {limit / 1e9:.1f} GB ({LIMIT_VARIABLE})"
    _make_room(folder, {file.key for file in files}, limit - wanted)
    missing = sum(file.bytes for file in todo)
    free = _free(folder)
    if missing + SPARE > free:
        return f"{missing / 1e9:.1f} GB of squares do not fit on a disk with {free / 1e9:.1f} GB left"
    return None


def _make_room(folder: Path, used: Collection[str], room: float) -> None:
    """Remove stores that are not used now, the oldest first, until the rest takes no more than `room` bytes."""
    stores = {path.stem: path for path in folder.glob("*.json") if path.stem not in used}
    with contextlib.suppress(OSError):  # another process may be doing the same
        taken = {key: path.with_suffix(".u8").stat().st_size for key, path in stores.items()}
        for key in sorted(stores, key=lambda key: stores[key].stat().st_mtime):
            if sum(taken.values()) <= room:
                break
            stores[key].unlink()
            stores[key].with_suffix(".u8").unlink()
            del taken[key]
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
