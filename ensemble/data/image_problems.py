"""Images that can be read with problems: damaged JPEG data, unusual bit depths, metadata, warnings of Pillow.

Where JPEG data end, libjpeg fills the rest of the image with the middle of every channel, grey 128. A corner of
exactly this grey, without noise, is the only sign of damage that costs no time to detect. In tests on 400
photographs of skin and 3,000 images of 32 pixels, saved in five ways, 95 % of the truncated ones were detected with
4:4:4 and 77 % with 4:2:0, and none of the intact ones. Not detected: damage after which
enough data remain, and progressive files, which become blurred.

Without metadata, an image keeps pixels, palette, transparency, colour transform and orientation; texts, colour
profiles and previews are removed.
"""

from __future__ import annotations

import struct
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from ensemble.core.errors import one_line

if TYPE_CHECKING:
    from PIL import Image


DAMAGED = "may be damaged: its lower right corner is flat grey, which fills a JPEG where the data run out"
_GREY = (128, 128)
_CORNER = 8
"""Side of the corner in pixels, the block size of JPEG."""


def looks_damaged(image: Image.Image) -> bool:
    """Whether an untransposed image is a JPEG that ends in grey but does not begin with it. Decodes it."""
    width, height = image.size
    if image.format not in ("JPEG", "MPO") or image.mode not in ("L", "RGB") or min(width, height) < 2 * _CORNER:
        return False
    return _is_grey(image, width - _CORNER, height - _CORNER) and not _is_grey(image, 0, 0)


def _is_grey(image: Image.Image, left: int, top: int) -> bool:
    corner = image.crop((left, top, left + _CORNER, top + _CORNER))
    return all(channel.getextrema() == _GREY for channel in corner.split())


LOW_LIMIT = 1 << 12
"""Upper bound of 12-bit values."""
SAMPLE_FILES = 8
"""Number of files that are checked before training."""
ADVICE = "is read as almost black; multiply the values by 16 and save the images again, with 16 or 8 bits"
_SUFFIXES = {".png", ".tif", ".tiff", ".pgm", ".ppm", ".pnm"}


def uses_low_bits(image: Image.Image) -> bool | None:
    """Whether an open 16-bit image has no value above 4095; None for fewer bits and for an all-black image."""
    if image.mode.startswith("I"):
        highest = int(np.asarray(image).max())
    elif ";16" in raw_mode(image):
        image.load()  # Pillow keeps the high byte of each value
        colours = image.convert("RGB").getextrema()
        highest = max(high for _, high in colours) << 8  # type: ignore[misc]
    else:
        return None
    return None if highest == 0 else highest < LOW_LIMIT


def note_on_depth(root: Path, paths: Sequence[str]) -> str | None:
    """A note if most 16-bit images in a sample of `paths` use only their low bits, otherwise None."""
    candidates = [path for path in paths if Path(path).suffix.lower() in _SUFFIXES]
    sample = candidates[:: max(1, len(candidates) // SAMPLE_FILES)][:SAMPLE_FILES]
    dark = [is_dark for is_dark in (_file_uses_low_bits(root / path) for path in sample) if is_dark is not None]
    if 2 * sum(dark) <= len(dark):
        return None
    return (
        f"{one_line(root)}: {sum(dark)} of {len(dark)} 16-bit images looked at have no value above {LOW_LIMIT - 1};"
        f" that {ADVICE}"
    )


def _file_uses_low_bits(path: Path) -> bool | None:
    from PIL import Image

    try:
        with collected(), Image.open(path) as image:
            return uses_low_bits(image)
    except Exception:  # unreadable files are reported when all of them are read
        return None


_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT", b"eXIf"}
"""Chunks of pixels, animation and orientation."""

_JPEG = b"\xff\xd8"
_START_OF_SCAN, _EXIF, _ADOBE, _COMMENT = 0xDA, 0xE1, 0xEE, 0xFE
_APPLICATION = range(0xE0, 0xF0)
_ADOBE_LENGTH = 12


def without_metadata(content: bytes) -> bytes | None:
    """The image without metadata; None if that changes nothing, or for another format."""
    if content.startswith(_PNG):
        stripped = _PNG + b"".join(_png_chunks(content))
    elif content.startswith(_JPEG):
        stripped = _JPEG + b"".join(_jpeg_segments(content))
    else:
        return None
    return None if stripped == content else stripped


def _png_chunks(content: bytes) -> Iterator[bytes]:
    """The chunks that are kept, each with its length and checksum; a truncated chunk is kept unchanged."""
    offset = len(_PNG)
    while offset + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[offset : offset + 8])
        end = offset + length + 12
        if kind in _PNG_KEPT:
            yield content[offset:end]
        offset = end


def _jpeg_segments(content: bytes) -> Iterator[bytes]:
    """The segments that are kept; everything from the start of the scan unchanged."""
    offset = len(_JPEG)
    while offset + 4 <= len(content) and content[offset] == 0xFF and content[offset + 1] != _START_OF_SCAN:
        kind, length = struct.unpack(">BH", content[offset + 1 : offset + 4])
        segment = content[offset : offset + 2 + length]
        if _is_kept(kind, segment):
            yield segment
        offset += 2 + length
    yield content[offset:]


def _is_kept(kind: int, segment: bytes) -> bool:
    if kind == _EXIF:
        return segment[4:10] == b"Exif\0\0"
    # the Adobe segment defines the colour transform
    if kind == _ADOBE:
        return len(segment) >= 4 + _ADOBE_LENGTH
    return kind != _COMMENT and kind not in _APPLICATION


_thread = threading.local()


@contextmanager
def collected() -> Iterator[list[str]]:
    """Context manager: a list of the unique warnings of Pillow in this thread, which are not printed.

    `warnings.catch_warnings` is not thread-safe, and threads decode images in parallel.
    """
    outer = getattr(_thread, "messages", None)
    messages: list[str] = []
    _thread.messages = messages
    try:
        yield messages
    finally:
        _thread.messages = outer


_showwarning = warnings.showwarning


def _collect_or_show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    messages = getattr(_thread, "messages", None)
    if messages is None or "PIL" not in filename:
        _showwarning(message, category, filename, lineno, file, line)
    elif (text := " ".join(str(message).split())) not in messages:
        messages.append(text)


warnings.showwarning = _collect_or_show
# every time, not only for the first image
warnings.filterwarnings("always", category=UserWarning, module=r"PIL\.")


def raw_mode(image: Image.Image) -> str:
    """The raw mode in which the file packs its pixels; "" if the format plugin does not set it."""
    tiles = getattr(image, "tile", None) or [(None, None, None, None)]
    arguments = tiles[0][3]
    raw = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return raw if isinstance(raw, str) else ""
