"""Atomic writing of files, JSON, and checksums.

`write_atomically` writes a temporary file, fsyncs it and renames it. Runs and submissions are written with it only.
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

    Raises EnsError for an OSError.
    """
    with replacing(path) as file:
        _write(file, content)
    return path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Context manager: a binary file that replaces `path` when the context ends without an error.

    The bytes go to a temporary file with a unique name in the same folder, which is fsynced and renamed to `path`:
    a reader never sees a partial file, and a crash or a full disk never leaves one. Character devices and pipes,
    such as /dev/stdout, are opened directly. Raises EnsError for an OSError.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        if path.is_char_device() or path.is_fifo():
            with path.open("wb") as file:
                yield file
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _fsync_folder(path.parent)
    except OSError as error:
        raise EnsError(f"cannot write {one_line(path)}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write(file: BinaryIO, content: Content) -> None:
    if callable(content):
        content(file)
    else:
        file.write(content.encode() if isinstance(content, str) else content)


def _fsync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder; NTFS journals the rename
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def without_nan(value: Any) -> Any:
    """`value` with None for every number that is not finite, as JSON cannot represent these."""
    if isinstance(value, dict):
        return {name: without_nan(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_text(value: Any) -> str:
    """`value` as indented JSON. Raises ValueError for numbers that are not finite."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> Path:
    """Write `json_text` of `value` to a file."""
    return write_atomically(path, json_text(value))


def read_json(path: Path) -> Any:
    """The JSON value in `path`. Raises DataError when the file cannot be read or parsed."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {one_line(path)}: {one_line(error)}") from error


Signature = tuple[int, int, int, int]


def signature(status: os.stat_result) -> Signature:
    """Size, mtime, inode and ctime, which are all equal when the file has not changed.

    Size and mtime alone miss two files of equal size and time that are swapped by renaming.
    """
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns


def sha256_file(path: Path) -> str:
    """The SHA-256 of the file at `path`, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """The SHA-256 of `value` in canonical JSON: keys sorted, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
