"""The SHA-256 and the readability of every file, computed in parallel and cached between commands."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ensemble.core.errors import DataError, EnsError, one_line
from ensemble.core.files import Signature, sha256_json, signature, write_atomically
from ensemble.core.parallel import threaded_map
from ensemble.recipe.data_spec import DataSpec

if TYPE_CHECKING:
    from PIL import Image

Progress = Callable[[int, int], None]
OnImage = Callable[[str, "Image.Image"], None]

_READER_VERSION = 3
"""Incremented when the rules for problems and remarks change, which invalidates the cache."""


@dataclass
class Digests:
    """Results for files.

    sha256: path -> SHA-256 of its bytes, "" if they cannot be read.  problems: path -> why it is no usable image.
    remarks: path -> broken metadata or likely damage of a readable image.
    """

    sha256: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)

    def add(self, path: str, sha256: str, problem: str | None, remark: str | None) -> None:
        """Add the result of a file."""
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
    """The first few names with their reasons, and the number of the others."""
    text = "; ".join(f"{one_line(path)} {reason}" for path, reason in list(problems.items())[:limit])
    rest = len(problems) - limit
    return f"{text}; and {rest} more" if rest > 0 else text


def digest_files(
    spec: DataSpec,
    paths: Iterable[str],
    folder: Path,
    progress: Progress | None = None,
    on_image: OnImage | None = None,
) -> Digests:
    """The digest and readability of every path (relative to `spec.path`); each file is read once and cached.

    folder: for the cache, by path and `files.signature`. It only saves time: an unreadable or unwritable cache does
    not change the result.
    on_image: called with (digest, image) for every file that is decoded, by several threads.
    """
    root = os.path.abspath(spec.path)  # noqa: PTH100 — Path.resolve would follow links
    cache_path = folder / f"digests-{_settings(spec, root)[:16]}.json"
    cached = read_cache(cache_path)
    digests = Digests()
    signatures: dict[str, Signature | None] = {}
    for path in paths:
        file_signature = _signature(f"{root}/{path}")
        entry = cached.get(path)
        if entry is None or file_signature is None or tuple(entry[:4]) != file_signature:
            signatures[path] = file_signature
        else:
            digests.add(path, *entry[4:])
    if signatures:
        _add(digests, signatures, spec, root, cached, cache_path, progress, on_image)
    return digests


def _add(
    digests: Digests,
    signatures: Mapping[str, Signature | None],
    spec: DataSpec,
    root: str,
    cached: dict[str, Any],
    cache_path: Path,
    progress: Progress | None,
    on_image: OnImage | None,
) -> None:
    """Read the files of `signatures`, and write the cache even after an interruption."""
    total = len(digests.sha256) + len(signatures)
    try:
        for path, sha256, problem, remark in _examined(spec, root, list(signatures), on_image):
            digests.add(path, sha256, problem, remark)
            file_signature = signatures[path]
            if file_signature is not None:
                cached[path] = [*file_signature, sha256, problem, remark]
            if progress:
                progress(len(digests.sha256), total)
    finally:
        write_cache(cache_path, cached)


def _signature(path: str) -> Signature | None:
    """The signature of a regular file, otherwise None."""
    try:
        status = os.stat(path)  # noqa: PTH116 — creating a Path for each of 50,000 files would double the time
    except (OSError, ValueError):
        return None
    return signature(status) if stat.S_ISREG(status.st_mode) else None


def _settings(spec: DataSpec, root: str) -> str:
    """Hash of the settings, besides the file, that decide whether a file can be read."""
    from PIL import __version__ as pillow

    return sha256_json([root, spec.max_pixels, spec.background, pillow, _READER_VERSION])


def _examined(
    spec: DataSpec, root: str, paths: Sequence[str], on_image: OnImage | None
) -> Iterator[tuple[str, str, str | None, str | None]]:
    def examine(path: str) -> tuple[str, str, str | None, str | None]:
        file = Path(root, path)
        return path, *examined(file, max_pixels=spec.max_pixels, background=spec.background, on_image=on_image)

    yield from threaded_map(examine, paths, min(16, 2 * (os.cpu_count() or 1)))


def examined(
    path: Path, *, max_pixels: int, background: tuple[int, int, int] | None, on_image: OnImage | None = None
) -> tuple[str, str | None, str | None]:
    """The SHA-256 of a file, why it is not a usable image or None, and a remark or None."""
    from ensemble.data.images import decode_with_remark, open_regular

    sha256 = ""
    try:
        with open_regular(path) as file:
            sha256 = _sha256(file)
            image, remark = decode_with_remark(file, max_pixels=max_pixels, background=background)
    except DataError as error:
        return sha256, str(error), None
    if on_image:
        on_image(sha256, image)
    return sha256, None, remark


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    try:
        while block := file.read(BLOCK):
            digest.update(block)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})") from error
    return digest.hexdigest()


def read_cache(path: Path) -> dict[str, list[Any]]:
    """path -> [*signature, sha256, problem, remark]; empty if the checksum of the file is wrong."""
    try:
        checksum, _, body = path.read_bytes().partition(b"\n")
    except OSError:
        return {}
    if hashlib.sha256(body).hexdigest().encode() != checksum:
        return {}
    entries: dict[str, list[Any]] = json.loads(body)
    return entries


def write_cache(path: Path, entries: Mapping[str, list[Any]]) -> None:
    """Write the file for `read_cache`. An error of the disk is ignored, as only time is lost."""
    body = json.dumps(entries, separators=(",", ":")).encode()
    checksum = hashlib.sha256(body).hexdigest().encode()
    with contextlib.suppress(EnsError):
        write_atomically(path, checksum + b"\n" + body)
