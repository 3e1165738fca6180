"""The sha256 and the readability of every file, found in parallel and remembered between commands."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ensemble.core.errors import DataError, EnsError, one_line
from ensemble.core.files import Signature, sha256_json, signature, write_atomically
from ensemble.core.parallel import threaded
from ensemble.recipe.schema import DataSpec

Progress = Callable[[int, int], None]

_READER = 3
"""Raised when what is readable or remarked on changes, so that remembered answers are asked again."""


@dataclass
class Digests:
    """What is known of files so far.

    sha256: path -> of its bytes, empty where they cannot be read.  problems: path -> why it is no image.
    remarks: path -> what is wrong with it, metadata or likely damage, though it can be read.
    """

    sha256: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)

    def add(self, path: str, sha256: str, problem: str | None, remark: str | None) -> None:
        """File what is known of one path."""
        self.sha256[path] = sha256
        if remark is not None:
            self.remarks[path] = remark
        if problem is not None:
            self.problems[path] = problem


BLOCK = 1 << 16
"""Bytes that are read at a time. With 1 MB, 60,000 images of 32 pixels took a sixth longer."""


class UnreadableFiles(DataError):
    """Images that cannot be read. problems: path -> reason, for all of them."""

    def __init__(self, problems: Mapping[str, str], total: int) -> None:
        self.problems = dict(problems)
        super().__init__(
            f"{len(problems)} of {total} images cannot be used: {described(problems)};"
            " correct or remove them, or go on without them: --set data.skip_unreadable=true"
        )


def described(problems: Mapping[str, str], limit: int = 5) -> str:
    """The first few names with their reasons, and how many more there are."""
    shown = "; ".join(f"{one_line(path)} {reason}" for path, reason in list(problems.items())[:limit])
    rest = len(problems) - limit
    return f"{shown}; and {rest} more" if rest > 0 else shown


def digest_files(spec: DataSpec, paths: Iterable[str], folder: Path, progress: Progress | None = None) -> Digests:
    """The digest and readability of every path (relative to `spec.path`), each file read once and remembered.

    folder: where answers are remembered, by path and `files.signature`. It only saves time: an
    unreadable or unwritable memory changes nothing.
    """
    root = os.path.abspath(spec.path)  # noqa: PTH100 — Path.resolve would follow links
    memory = folder / f"digests-{_settings(spec, root)[:16]}.json"
    known = read_memory(memory)
    digests = Digests()
    todo: dict[str, Signature | None] = {}
    for path in paths:
        now = _signature(f"{root}/{path}")
        entry = known.get(path)
        if entry is None or now is None or tuple(entry[:4]) != now:
            todo[path] = now
        else:
            digests.add(path, *entry[4:])
    if todo:
        _add(digests, todo, spec, root, known, memory, progress)
    return digests


def _add(
    digests: Digests,
    todo: Mapping[str, Signature | None],
    spec: DataSpec,
    root: str,
    known: dict[str, Any],
    memory: Path,
    progress: Progress | None,
) -> None:
    """Read the files of `todo`, and remember them even when interrupted."""
    total = len(digests.sha256) + len(todo)
    try:
        for path, sha256, problem, remark in _examined(spec, root, list(todo)):
            digests.add(path, sha256, problem, remark)
            before = todo[path]
            if before is not None:
                known[path] = [*before, sha256, problem, remark]
            if progress:
                progress(len(digests.sha256), total)
    finally:
        write_memory(memory, known)


def _signature(path: str) -> Signature | None:
    """The signature of a plain file, else None."""
    try:
        status = os.stat(path)  # noqa: PTH116 — a Path for each of 50,000 files would double the time
    except (OSError, ValueError):
        return None
    return signature(status) if stat.S_ISREG(status.st_mode) else None


def _settings(spec: DataSpec, root: str) -> str:
    """What, besides a file, decides whether it can be read."""
    from PIL import __version__ as pillow

    return sha256_json([root, spec.max_pixels, spec.background, pillow, _READER])


def _examined(spec: DataSpec, root: str, paths: Sequence[str]) -> Iterator[tuple[str, str, str | None, str | None]]:
    def examine(path: str) -> tuple[str, str, str | None, str | None]:
        return path, *examined(Path(root, path), max_pixels=spec.max_pixels, background=spec.background)

    yield from threaded(examine, paths, min(16, 2 * (os.cpu_count() or 1)))


def examined(
    path: Path, *, max_pixels: int, background: tuple[int, int, int] | None
) -> tuple[str, str | None, str | None]:
    """The sha256 of one file, why it is no image that can be used or None, and a remark or None."""
    from ensemble.data.images import decode_with_remark, open_regular

    sha256 = ""
    try:
        with open_regular(path) as file:
            sha256 = _sha256(file)
            _, remark = decode_with_remark(file, max_pixels=max_pixels, background=background)
    except DataError as error:
        return sha256, str(error), None
    return sha256, None, remark


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    try:
        while block := file.read(BLOCK):
            digest.update(block)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})") from error
    return digest.hexdigest()


def read_memory(path: Path) -> dict[str, list[Any]]:
    """path -> [*signature, sha256, problem, remark]; empty for a file that is not exactly as it was written."""
    try:
        checksum, _, body = path.read_bytes().partition(b"\n")
    except OSError:
        return {}
    if hashlib.sha256(body).hexdigest().encode() != checksum:
        return {}
    entries: dict[str, list[Any]] = json.loads(body)
    return entries


def write_memory(path: Path, entries: Mapping[str, list[Any]]) -> None:
    """Write what `read_memory` reads; a disk that refuses is let be, as only time is lost."""
    body = json.dumps(entries, separators=(",", ":")).encode()
    checksum = hashlib.sha256(body).hexdigest().encode()
    with contextlib.suppress(EnsError):
        write_atomically(path, checksum + b"\n" + body)
