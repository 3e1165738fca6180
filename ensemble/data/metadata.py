"""Copies of PNG and JPEG files without their metadata, for images that nothing but metadata spoil.

Pixels, palette, transparency, colour transform and orientation stay; texts, colour profiles and previews go.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT", b"eXIf"}
"""What decides pixels, animation and orientation."""

_JPEG = b"\xff\xd8"
_START_OF_SCAN, _EXIF, _ADOBE, _COMMENT = 0xDA, 0xE1, 0xEE, 0xFE
_APPLICATION = range(0xE0, 0xF0)
_ADOBE_LENGTH = 12


def without_metadata(content: bytes) -> bytes | None:
    """The same image without metadata; None where that changes nothing, or for another format."""
    if content.startswith(_PNG):
        plain = _PNG + b"".join(_png_chunks(content))
    elif content.startswith(_JPEG):
        plain = _JPEG + b"".join(_jpeg_segments(content))
    else:
        return None
    return None if plain == content else plain


def _png_chunks(content: bytes) -> Iterator[bytes]:
    """The chunks that are kept, each with its length and checksum; a chunk that is cut short as it is."""
    place = len(_PNG)
    while place + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[place : place + 8])
        end = place + length + 12
        if kind in _PNG_KEPT:
            yield content[place:end]
        place = end


def _jpeg_segments(content: bytes) -> Iterator[bytes]:
    """The segments that are kept; everything from the start of the scan as it is."""
    place = len(_JPEG)
    while place + 4 <= len(content) and content[place] == 0xFF and content[place + 1] != _START_OF_SCAN:
        kind, length = struct.unpack(">BH", content[place + 1 : place + 4])
        segment = content[place : place + 2 + length]
        if _is_kept(kind, segment):
            yield segment
        place += 2 + length
    yield content[place:]


def _is_kept(kind: int, segment: bytes) -> bool:
    if kind == _EXIF:
        return segment[4:10] == b"Exif\0\0"
    # without it nobody knows whether the colours are transformed
    if kind == _ADOBE:
        return len(segment) >= 4 + _ADOBE_LENGTH
    return kind != _COMMENT and kind not in _APPLICATION
