"""Formats and sizes of the files of a data set, and outliers among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath

import numpy as np
import numpy.typing as npt
from PIL import Image

from ensemble.core.parallel import map_parts
from ensemble.core.predictions import Ints, Texts
from ensemble.data.dataset import Dataset
from ensemble.data.image_problems import DAMAGED, LOW_LIMIT, collected, looks_damaged, uses_low_bits
from ensemble.data.images import ImageReader
from ensemble.data.preprocess import Pixels

TINY = 16
"""Shorter side in pixels below which an image is odd, if most others are larger."""
MAX_SIZE_RATIO = 6
"""Ratio of the median shorter side to an image's, above which the image is odd."""
MAX_ASPECT = 4.0
"""Aspect ratio above which an image is odd."""
NEAR_GREY = 32
"""Largest distance from grey level 128 of a corner of a downsized image that may come from a damaged file."""
ONE_COLOUR = 3
"""Largest range of grey levels of 255, in every channel, of an image of one colour."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Headers:
    """Headers of q files. format, mode: str (q,).  width, height: int64 (q,), as stored.

    low: bool (q,), 16-bit files without a value above 4095; None if not computed.
    """

    format: Texts
    mode: Texts
    width: Ints
    height: Ints
    low: npt.NDArray[np.bool_] | None = None

    @property
    def shorter(self) -> Ints:
        """int64 (q,): the shorter sides in pixels."""
        return np.minimum(self.width, self.height)


Header = tuple[str, str, int, int, bool]


def headers(dataset: Dataset, paths: Sequence[str], progress: Progress | None = None) -> Headers:
    """The headers of readable files; the built-in digits have none, so the images are decoded instead."""
    rows: list[Header] = []
    for done, part in map_parts(partial(_headers, dataset.open_image), paths):
        rows += part
        if progress:
            progress(done, len(paths))
    formats, modes, widths, heights, low = map(np.array, zip(*rows, strict=True))
    return Headers(formats, modes, widths.astype(np.int64), heights.astype(np.int64), low.astype(bool))


def _headers(open_image: Callable[[str], Image.Image], paths: Sequence[str]) -> list[Header]:
    if not isinstance(open_image, ImageReader):
        return [("built in", image.mode, *image.size, False) for image in map(open_image, paths)]
    rows: list[Header] = []
    for path in paths:
        with collected(), Image.open(Path(open_image.root, path)) as image:
            rows.append((image.format or "", image.mode, *image.size, bool(uses_low_bits(image))))
    return rows


def sizes(file_headers: Headers, limit: int = 5) -> list[tuple[str, int]]:
    """The `limit` most common sizes, as `width x height`, with their counts."""
    pairs = Counter(zip(file_headers.width.tolist(), file_headers.height.tolist(), strict=True))
    return [(f"{width} x {height}", count) for (width, height), count in pairs.most_common(limit)]


def damaged(dataset: Dataset, file_headers: Headers, paths: Sequence[str], pictures: Pixels) -> list[int]:
    """Rows of files that may be damaged. pictures: uint8 (q, s, s, 3), the images downsized and upright.

    Opens only JPEG files with a nearly grey corner: any corner, as EXIF orientation may have moved the lower right.
    """
    if not isinstance(dataset.open_image, ImageReader):
        return []
    corners = pictures[:, [0, 0, -1, -1], [0, -1, 0, -1]].astype(np.int64)
    near_grey = np.abs(corners - 128).max(2) <= NEAR_GREY
    suspicious = near_grey.max(1) & np.isin(file_headers.format, ("JPEG", "MPO"))
    rows = []
    for row in np.flatnonzero(suspicious).tolist():
        with collected(), Image.open(Path(dataset.open_image.root, paths[row])) as image:
            if looks_damaged(image):
                rows.append(row)
    return rows


def oddities(
    file_headers: Headers, paths: Sequence[str], pictures: Pixels, damaged: Sequence[int] = ()
) -> dict[int, str]:
    """row -> reasons why that file is odd. pictures: uint8 (q, s, s, 3), the images downsized.

    damaged: rows of files that may be damaged.
    """
    reasons: dict[int, list[str]] = {}
    median = float(np.median(file_headers.shorter)) if len(paths) else 0.0
    longer = np.maximum(file_headers.width, file_headers.height)
    for row in np.flatnonzero((file_headers.shorter < TINY) & (median >= TINY)).tolist():
        reasons.setdefault(row, []).append(f"{file_headers.width[row]} x {file_headers.height[row]} pixels")
    for row in np.flatnonzero(
        (file_headers.shorter >= TINY) & (MAX_SIZE_RATIO * file_headers.shorter < median)
    ).tolist():
        reasons.setdefault(row, []).append(
            f"{file_headers.width[row]} x {file_headers.height[row]}, far smaller than the others"
        )
    for row in np.flatnonzero(longer > MAX_ASPECT * file_headers.shorter).tolist():
        reasons.setdefault(row, []).append(f"long and thin: {file_headers.width[row]} x {file_headers.height[row]}")
    for row in [] if file_headers.low is None else np.flatnonzero(file_headers.low).tolist():
        reasons.setdefault(row, []).append(f"16 bits without a value above {LOW_LIMIT - 1}: almost black")
    for row in np.flatnonzero(grey_range(pictures) <= ONE_COLOUR).tolist():
        reasons.setdefault(row, []).append("one colour all over")
    for row in damaged:
        reasons.setdefault(row, []).append(DAMAGED)
    for row, path in enumerate(paths):
        if mismatch := _extension_mismatch(path, str(file_headers.format[row])):
            reasons.setdefault(row, []).append(mismatch)
    return {row: "; ".join(reasons[row]) for row in sorted(reasons)}


def grey_range(pictures: Pixels) -> Ints:
    """int64 (q,): range of grey levels of each image, the largest over the channels."""
    parts = [np.zeros(0, np.int64)]
    for start in range(0, len(pictures), 4096):
        part = pictures[start : start + 4096]
        # channels first, as reductions along contiguous memory are many times faster
        channels = np.ascontiguousarray(part.reshape(len(part), -1, 3).transpose(0, 2, 1))
        parts.append((channels.max(2).astype(np.int64) - channels.min(2)).max(1))
    return np.concatenate(parts)


def grey(pictures: Pixels) -> int:
    """Number of images without colour."""
    count = 0
    for start in range(0, len(pictures), 4096):
        part = pictures[start : start + 4096]
        count += int(((part[..., 0] == part[..., 1]) & (part[..., 1] == part[..., 2])).all((1, 2)).sum())
    return count


def _extension_mismatch(path: str, format: str) -> str:
    """The mismatch between a file's extension, which other programs rely on, and its format; empty if none."""
    Image.init()
    extension = PurePath(path).suffix.lower()
    expected_format = Image.EXTENSION.get(extension)
    equivalent = {
        expected_format,
        *({"JPEG", "MPO"} if expected_format in ("JPEG", "MPO") else ()),
        *({"PPM"} if expected_format == "PPM" else ()),
    }
    return (
        ""
        if expected_format is None or format in ("", "built in", *equivalent)
        else f"called {extension}, is {format}"
    )
