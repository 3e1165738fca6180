"""Writing a file so that it is either whole or not there, and reading it back.

Every file of a run and every submission goes through `write_atomically`: written aside, fsynced, renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ensemble.core.errors import DataError, EnsError, one_line

Content = bytes | str | Callable[[BinaryIO], None]


def write_atomically(path: Path, content: Content) -> Path:
    """Write `content` (bytes, text as UTF-8, or a function that writes to a binary file) to `path`.

    Raises EnsError when the disk refuses.
    """
    with replacing(path) as file:
        _write(file, content)
    return path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A binary file to write to, which becomes `path` when the context ends without an error.

    The bytes go to a neighbour with a name of its own, are fsynced, and the neighbour is renamed over
    `path`: a reader, a kill or a full disk never sees half a file. What is no file, such as /dev/stdout or a pipe,
    is written to as it is. Raises EnsError when the disk refuses.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        if path.is_char_device() or path.is_fifo():
            with path.open("wb") as file:
                yield file
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        _fsync_folder(path.parent)
    except OSError as error:
        raise EnsError(f"cannot write {one_line(path)}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def _write(file: BinaryIO, content: Content) -> None:
    if callable(content):
        content(file)
    else:
        file.write(content.encode() if isinstance(content, str) else content)


def _fsync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder, and journals the rename itself
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def without_nan(value: Any) -> Any:
    """Plain values with None for every number that is not finite, which JSON has no word for."""
    if isinstance(value, dict):
        return {name: without_nan(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_text(value: Any) -> str:
    """`value` as indented JSON; numbers that are not finite are refused with ValueError."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> Path:
    """`json_text` of `value` in a file."""
    return write_atomically(path, json_text(value))


def read_json(path: Path) -> Any:
    """The JSON value in `path`. Raises DataError when it cannot be read or parsed."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {one_line(path)}: {one_line(error)}") from error


Signature = tuple[int, int, int, int]


def signature(status: os.stat_result) -> Signature:
    """Size, time of change, inode and time of the inode's change: equal where a file is as it was.

    The first two alone miss files of one size and time that are exchanged by renaming.
    """
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns


def sha256_file(path: Path) -> str:
    """The sha256 of the bytes of `path`, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """The sha256 of `value` in canonical JSON: keys sorted, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
