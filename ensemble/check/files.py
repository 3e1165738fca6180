"""What the files of a data set are: formats, sizes, and those that are unlike the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath

import numpy as np
import numpy.typing as npt
from PIL import Image

from ensemble.core.parallel import in_parts
from ensemble.core.predictions import Ints, Texts
from ensemble.data.dataset import Dataset
from ensemble.data.image_problems import DAMAGED, LOW, collected, looks_damaged, uses_low_bits
from ensemble.data.images import ImageReader
from ensemble.data.preprocess import Pixels

TINY = 16
"""Pixels: a shorter side below it is odd in itself."""
SMALLER = 6
"""An image is odd when its shorter side is so many times smaller than the median."""
LONG = 4.0
"""The longer side through the shorter, above which an image is odd."""
NEAR_GREY = 32
"""Levels from 128 up to which the corner of a small picture may be that of a damaged one."""
ONE_COLOUR = 3
"""Levels of 255 between the darkest and the brightest pixel of any channel, up to which an image is one colour."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Headers:
    """What the headers of q files say. format, mode: str (q,).  width, height: int64 (q,), as stored.

    low: bool (q,), 16-bit files without a value above 4095; None where nobody has looked.
    """

    format: Texts
    mode: Texts
    width: Ints
    height: Ints
    low: npt.NDArray[np.bool_] | None = None

    @property
    def shorter(self) -> Ints:
        """The shorter side of each, pixels."""
        return np.minimum(self.width, self.height)


Header = tuple[str, str, int, int, bool]


def headers(dataset: Dataset, paths: Sequence[str], progress: Progress | None = None) -> Headers:
    """The headers of files that can be read; the built-in digits have none, and are opened instead."""
    found: list[Header] = []
    for done, part in in_parts(partial(_headers, dataset.open_image), paths):
        found += part
        if progress:
            progress(done, len(paths))
    formats, modes, widths, heights, low = map(np.array, zip(*found, strict=True))
    return Headers(formats, modes, widths.astype(np.int64), heights.astype(np.int64), low.astype(bool))


def _headers(open_image: Callable[[str], Image.Image], paths: Sequence[str]) -> list[Header]:
    if not isinstance(open_image, ImageReader):
        return [("built in", image.mode, *image.size, False) for image in map(open_image, paths)]
    found: list[Header] = []
    for path in paths:
        with collected(), Image.open(Path(open_image.root, path)) as image:
            found.append((image.format or "", image.mode, *image.size, bool(uses_low_bits(image))))
    return found


def sizes(found: Headers, limit: int = 5) -> list[tuple[str, int]]:
    """The commonest `width x height` with their counts."""
    pairs = Counter(zip(found.width.tolist(), found.height.tolist(), strict=True))
    return [(f"{width} x {height}", count) for (width, height), count in pairs.most_common(limit)]


def damaged(dataset: Dataset, found: Headers, paths: Sequence[str], pictures: Pixels) -> list[int]:
    """The rows of files that may be damaged. pictures: uint8 (q, s, s, 3), the same images small and upright.

    Only those are opened of which a corner, whichever the turn makes of the lower right, is near grey.
    """
    if not isinstance(dataset.open_image, ImageReader):
        return []
    corners = pictures[:, [0, 0, -1, -1], [0, -1, 0, -1]].astype(np.int64)
    grey = np.abs(corners - 128).max(2) <= NEAR_GREY
    likely = grey.max(1) & np.isin(found.format, ("JPEG", "MPO"))
    rows = []
    for row in np.flatnonzero(likely).tolist():
        with collected(), Image.open(Path(dataset.open_image.root, paths[row])) as image:
            if looks_damaged(image):
                rows.append(row)
    return rows


def oddities(found: Headers, paths: Sequence[str], pictures: Pixels, damaged: Sequence[int] = ()) -> dict[int, str]:
    """row -> what is odd about that file. pictures: uint8 (q, s, s, 3), the same images small.

    damaged: the rows of files that may be damaged.
    """
    said: dict[int, list[str]] = {}
    median = float(np.median(found.shorter)) if len(paths) else 0.0
    longer = np.maximum(found.width, found.height)
    for row in np.flatnonzero((found.shorter < TINY) & (median >= TINY)).tolist():
        said.setdefault(row, []).append(f"{found.width[row]} x {found.height[row]} pixels")
    for row in np.flatnonzero((found.shorter >= TINY) & (SMALLER * found.shorter < median)).tolist():
        said.setdefault(row, []).append(f"{found.width[row]} x {found.height[row]}, far smaller than the others")
    for row in np.flatnonzero(longer > LONG * found.shorter).tolist():
        said.setdefault(row, []).append(f"long and thin: {found.width[row]} x {found.height[row]}")
    for row in [] if found.low is None else np.flatnonzero(found.low).tolist():
        said.setdefault(row, []).append(f"16 bits without a value above {LOW - 1}: almost black")
    for row in np.flatnonzero(spread(pictures) <= ONE_COLOUR).tolist():
        said.setdefault(row, []).append("one colour all over")
    for row in damaged:
        said.setdefault(row, []).append(DAMAGED)
    for row, path in enumerate(paths):
        if wrong := _other_extension(path, str(found.format[row])):
            said.setdefault(row, []).append(wrong)
    return {row: "; ".join(said[row]) for row in sorted(said)}


def spread(pictures: Pixels) -> Ints:
    """int64 (q,): levels between the darkest and the brightest pixel, in the channel that spans most."""
    parts = [np.zeros(0, np.int64)]
    for start in range(0, len(pictures), 4096):
        part = pictures[start : start + 4096]
        # channels first, as a minimum along neighbours is many times faster
        channels = np.ascontiguousarray(part.reshape(len(part), -1, 3).transpose(0, 2, 1))
        parts.append((channels.max(2).astype(np.int64) - channels.min(2)).max(1))
    return np.concatenate(parts)


def grey(pictures: Pixels) -> int:
    """How many have no colour at all."""
    count = 0
    for start in range(0, len(pictures), 4096):
        part = pictures[start : start + 4096]
        count += int(((part[..., 0] == part[..., 1]) & (part[..., 1] == part[..., 2])).all((1, 2)).sum())
    return count


def _other_extension(path: str, format: str) -> str:
    """What is wrong with a file's extension, which other programs go by."""
    Image.init()
    extension = PurePath(path).suffix.lower()
    named = Image.EXTENSION.get(extension)
    same = {named, *({"JPEG", "MPO"} if named in ("JPEG", "MPO") else ()), *({"PPM"} if named == "PPM" else ())}
    return "" if named is None or format in ("", "built in", *same) else f"called {extension}, is {format}"
