"""Decoding of an image file to an upright 8-bit RGB image, or an error that gives the reason.

The content is decoded faithfully or refused: values are not clipped, the orientation is applied, transparent
pixels need a background colour, and truncated files are refused. Damage inside a JPEG is detected only in part,
see `image_problems.py`.
"""

from __future__ import annotations

import stat
import warnings
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from ensemble.core.errors import DataError, one_line
from ensemble.data.image_problems import DAMAGED, collected, looks_damaged, raw_mode, without_metadata

Colour = tuple[int, int, int]

_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "MPO", "PPM", "JPEG2000", "AVIF")
"""Pillow's other plugins are left out: some run programs (EPS), some accept any file (TGA)."""

_WIDE_GREY = {"PNG", "PPM"}
"""Formats with at most 16-bit grey, which older versions of Pillow open as 32-bit `I`."""

_ORIENTATION = 0x0112
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# As the Pillow manual advises, for files that reach the limit of Pillow before `max_pixels` is checked.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


_TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning)


class _Refused(DataError):
    """The reason why a file is refused, without its name."""


class NotAnImage(_Refused):
    """The content is not in a supported format."""


class TooManyPixels(_Refused):
    """The header gives more pixels than allowed."""


class SeeThrough(_Refused):
    """The image has transparent pixels and there is no background colour."""


@dataclass(frozen=True)
class ImageReader:
    """path below `root` -> image. A picklable value, for loader processes started with spawn.

    root: folder.  max_pixels: width times height.  background: RGB behind transparent pixels, or None.
    """

    root: str
    max_pixels: int
    background: Colour | None = None

    def __call__(self, path: str) -> Image.Image:
        """The upright 8-bit RGB image. Raises DataError that names the file."""
        return read_image(Path(self.root, path), max_pixels=self.max_pixels, background=self.background)


def read_image(path: Path, *, max_pixels: int, background: Colour | None) -> Image.Image:
    """The image in `path`, upright, 8-bit RGB. Raises DataError with the name of the file and advice."""
    try:
        with open_regular(path) as file:
            return decode(file, max_pixels=max_pixels, background=background)
    except DataError as error:
        raise DataError(f"{one_line(path)}: {error}") from error


def problem_with(path: Path, *, max_pixels: int, background: Colour | None) -> str | None:
    """Why `read_image` would refuse `path`, without its name; None if it can be read."""
    try:
        with open_regular(path) as file:
            decode(file, max_pixels=max_pixels, background=background)
    except DataError as error:
        return str(error)
    return None


def open_regular(path: Path) -> BinaryIO:
    """`path` opened for reading. Raises DataError, without the name, if it is not a readable regular file."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise _Refused("is a folder, an image file expected")
        # opening a named pipe would block until something is written to it
        if not stat.S_ISREG(mode):
            raise _Refused("is a device or a pipe, an image file expected")
        return path.open("rb")
    except FileNotFoundError as error:
        raise _Refused("no such file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _Refused(f"cannot be opened ({one_line(reason)})") from error


def decode(file: BinaryIO, *, max_pixels: int, background: Colour | None) -> Image.Image:
    """The upright 8-bit RGB image in `file`, read from the start. Raises DataError without a name."""
    return decode_with_remark(file, max_pixels=max_pixels, background=background)[0]


def decode_with_remark(
    file: BinaryIO, *, max_pixels: int, background: Colour | None
) -> tuple[Image.Image, str | None]:
    """`decode`, and a remark on broken metadata or likely damage, or None."""
    if file.seek(0, 2) == 0:
        raise _Refused("is empty (0 bytes)")
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels  # the recipe allows more than Pillow
    file.seek(0)
    try:
        with collected() as pillow_warnings:
            image, remark = _opened(file, max_pixels, background)
        return image, remark or _warning_remark(pillow_warnings)
    except (DataError, MemoryError, *_TOO_LARGE) as error:
        raise _refusal(error, max_pixels) from error
    except Exception as error:  # Pillow's parsers raise any exception for a broken file
        stripped = _opened_without_metadata(file, max_pixels, background)
        if stripped is None:
            raise _refusal(error, max_pixels) from error
        return stripped, f"has broken metadata, which are left out ({_reason(error)})"


def _warning_remark(pillow_warnings: list[str]) -> str | None:
    """A remark with the warnings of Pillow, or None."""
    return (
        f"has metadata that Pillow warns of ({one_line('; '.join(pillow_warnings))})" if pillow_warnings else None
    )


def _opened(file: BinaryIO, max_pixels: int, background: Colour | None) -> tuple[Image.Image, str | None]:
    with Image.open(file, formats=_formats()) as image:
        _check_header(image, max_pixels)
        return _decoded(image, background)


def _opened_without_metadata(file: BinaryIO, max_pixels: int, background: Colour | None) -> Image.Image | None:
    """The image in `file` if only its metadata are broken, otherwise None."""
    file.seek(0)
    stripped = without_metadata(file.read())
    if stripped is None:
        return None
    try:
        with collected():
            return _opened(BytesIO(stripped), max_pixels, background)[0]
    except Exception:  # the first error is reported
        return None


def _refusal(error: Exception, max_pixels: int) -> DataError:
    if isinstance(error, DataError):
        return error
    if isinstance(error, _TOO_LARGE):
        return _too_large("", max_pixels)
    if isinstance(error, UnidentifiedImageError):
        return NotAnImage("is not an image of a known format; convert it to PNG or JPEG")
    if isinstance(error, MemoryError):
        return _Refused("needs more memory than there is; shrink it")
    return _Refused(f"is broken or cut short ({_reason(error)})")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "the header"
    return one_line(error) or type(error).__name__


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _too_large(size: str, max_pixels: int) -> TooManyPixels:
    return TooManyPixels(f"has more than {max_pixels} pixels{size}; shrink it or raise data.max_pixels")


def _check_header(image: Image.Image, max_pixels: int) -> None:
    """Refuse by the header, before decoding."""
    width, height = image.size
    if width * height > max_pixels:
        raise _too_large(f" ({width} x {height})", max_pixels)
    # an MPO of a phone is a single image with previews
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise _Refused("is animated or has several pages; save one frame of it as PNG or JPEG")
    if image.mode == "F" or (image.mode == "I" and image.format not in _WIDE_GREY):
        raise _Refused("has 32-bit pixels, whose range is not known; save it with 8 or 16 bits")


def _decoded(image: Image.Image, background: Colour | None) -> tuple[Image.Image, str | None]:
    raw = raw_mode(image)
    if raw == "I;12":
        raise _Refused("has 12-bit pixels; save it with 8 or 16 bits")
    image.load()
    if image.mode.startswith("I"):
        converted = _from_16_bit(image)
    elif raw.startswith("RGB;16") and "transparency" in image.info:
        raise _Refused("names one of its 16-bit colours transparent; save it with 8 bits or with an alpha channel")
    else:
        converted = image
    method, remark = _transposition(image)
    rgb = _opaque(converted, background) if converted.has_transparency_data else converted.convert("RGB")
    remarks = [DAMAGED if looks_damaged(image) else None, remark]
    return (rgb if method is None else rgb.transpose(method)), "; ".join(filter(None, remarks)) or None


def _transposition(image: Image.Image) -> tuple[Image.Transpose | None, str | None]:
    """The transposition that makes the image upright, and a remark if its EXIF block is broken."""
    try:
        return _TRANSPOSITIONS.get(image.getexif().get(_ORIENTATION, 1)), None
    except Exception as error:  # the parser raises any exception
        return None, f"has an EXIF block that cannot be read ({_reason(error)}); it is taken to be upright"


def _from_16_bit(image: Image.Image) -> Image.Image:
    """The high byte of 16-bit grey; the transparent value of a PNG becomes alpha."""
    values = np.asarray(image)
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def _opaque(image: Image.Image, background: Colour | None) -> Image.Image:
    """RGB, with `background` behind transparent pixels. Raises DataError if there are any and no background."""
    rgba = image.convert("RGBA")
    lowest_alpha, _ = rgba.getchannel("A").getextrema()
    if lowest_alpha == 255:
        return rgba.convert("RGB")
    if background is None:
        raise SeeThrough(
            "has transparent pixels; set data.background: [255, 255, 255] to say what lies behind them"
        )
    return Image.alpha_composite(Image.new("RGBA", rgba.size, (*background, 255)), rgba).convert("RGB")
