"""Two small pictures laid over each other: how much one is scaled and shifted against the other, and how alike.

Registration is by Gauss-Newton steps (Lucas and Kanade 1981) on scale and shift of rows and of columns, with gain
and offset as further unknowns, so that brightness and contrast do not matter; many pairs at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from ensemble.data.preprocess import Pixels

Array = npt.NDArray[np.floating[Any]]
"""float32 throughout."""

COARSE = 16
"""Pixels a side at which a pair is first laid over each other."""
STEPS = 4
"""Gauss-Newton steps at each size; further ones find one pair in a thousand more."""
MOST_SCALE, MOST_SHIFT = 0.2, 0.25
"""How far registration may go, in halves of a side: beyond it is not `slightly cropped`."""
RIDGE = 1e-3
"""What keeps a picture without texture from sliding anywhere, relative to a pixel's variance of one."""
FINE, BROAD = 0.6, 2.5
"""Pixels: the standard deviations between which detail lies."""
AROUND, FAINT = 3.0, 3.0
"""Pixels around, and grey levels of 255, by which detail is measured: every place counts alike, noise does not."""


@dataclass(frozen=True)
class Overlay:
    """p pairs laid over each other.

    scale, shift: float32 (p, 2), rows and columns: the place u in [-1, 1] of the first picture is
    (1 + scale) u + shift of the second.  whole, detail: float32 (p,), Pearson's correlation over the pixels that
    both have, of luminance and of its detail, divided by how strong detail is around each pixel.
    residual: float32 (p,), grey levels of 255: what is left of the first after the second is taken off.
    """

    scale: Array
    shift: Array
    whole: Array
    detail: Array
    residual: Array


def luminance(pixels: Pixels) -> Array:
    """uint8 (p, s, s, 3) -> float32 (p, s, s), ITU-R 601."""
    grey: Array = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return grey


def shrunk(pictures: Array, size: int) -> Array:
    """(p, s, s) -> (p, size, size) by the mean of blocks; s is a multiple of size."""
    p, s, _ = pictures.shape
    block = s // size
    means: Array = pictures.reshape(p, size, block, size, block).mean((2, 4), dtype=np.float32)
    return means


def registered(first: Array, second: Array, scale: Array, shift: Array) -> tuple[Array, Array]:
    """Scale and shift that lay `second` (p, s, s) over `first`, from those that are nearly right."""
    for _ in range(STEPS):
        scale, shift = _step(first, second, scale, shift)
    return scale, shift


@dataclass(frozen=True)
class Prepared:
    """Pictures (p, s, s), their detail, and that in units of what is around it: computed once for many pairs."""

    pictures: Array
    detail: Array
    even: Array

    def take(self, rows: npt.NDArray[Any]) -> Prepared:
        """Those at `rows`."""
        return Prepared(self.pictures[rows], self.detail[rows], self.even[rows])

    def turned(self, which: npt.NDArray[np.bool_]) -> Prepared:
        """With the mirror images of those that `which`, bool (p,), says."""
        parts = [
            np.where(which[:, None, None], part[:, :, ::-1], part)
            for part in (self.pictures, self.detail, self.even)
        ]
        return Prepared(*parts)


def prepared(pictures: Array) -> Prepared:
    """What `overlaid` asks of pictures (p, s, s)."""
    detail = band(pictures)
    return Prepared(pictures, detail, _even(detail))


def overlaid(first: Prepared, second: Prepared, scale: Array, shift: Array) -> Overlay:
    """What two pictures (p, s, s) are to each other, once registered from `scale` and `shift`, (p, 2) each."""
    scale, shift = registered(first.pictures, second.pictures, scale, shift)
    rows, columns, mask = samplers(scale, shift, first.pictures.shape[1])
    moved: Array = rows @ second.pictures @ columns
    fine: Array = rows @ second.detail @ columns
    whole = correlation(first.pictures, moved, mask)
    detail = correlation(first.even, _even(fine), mask)
    return Overlay(scale, shift, whole, detail, _residual(first.pictures, whole, mask))


def correlation(first: Array, second: Array, mask: Array) -> Array:
    """Pearson's, float32 (p,), of (p, s, s) each where `mask` is one; 0 where one of the two is constant."""
    weight = mask.sum((1, 2))
    a, b = (_centred(one, mask, weight) for one in (first, second))
    squares = (a * a).sum((1, 2)) * (b * b).sum((1, 2))
    product = (a * b).sum((1, 2)) / np.sqrt(np.maximum(squares, 1e-6))
    return np.where(squares > 1e-6, product, 0).astype(np.float32)


def band(pictures: Array) -> Array:
    """(p, s, s) without what is smoother than `BROAD` and what is finer than `FINE` pixels."""
    fine = _blurred(pictures, FINE)
    detail: Array = fine - _blurred(fine, BROAD)
    return detail


def _even(detail: Array) -> Array:
    """Detail in units of what is around it.

    An edge that many pictures share, such as the rim of a dark frame or of a thing before a plain background,
    counts no more than the texture beside it.
    """
    even: Array = detail / np.sqrt(_blurred(detail * detail, AROUND) + FAINT**2)
    return even


def _blurred(pictures: Array, sigma: float) -> Array:
    for axis in (1, 2):
        pictures = gaussian_filter1d(pictures, sigma, axis=axis, mode="nearest")
    return pictures


def _residual(first: Array, whole: Array, mask: Array) -> Array:
    weight = mask.sum((1, 2))
    spread = np.sqrt((_centred(first, mask, weight) ** 2).sum((1, 2)) / weight)
    left: Array = spread * np.sqrt(np.maximum(0, 1 - whole**2))
    return left


def _centred(pictures: Array, mask: Array, weight: Array) -> Array:
    mean = (pictures * mask).sum((1, 2)) / weight
    centred: Array = (pictures - mean[:, None, None]) * mask
    return centred


def _places(size: int) -> Array:
    """The middles of pixels, from -1 to 1."""
    return ((2 * np.arange(size, dtype=np.float32) + 1) / size - 1).astype(np.float32)


def _sampler(scale: Array, shift: Array, size: int) -> tuple[Array, Array]:
    """Linear interpolation along one axis, (p, size, size), and which places lie inside, (p, size)."""
    places = (1 + scale[:, None]) * _places(size) + shift[:, None]
    at = (places + 1) * size / 2 - 0.5
    inside = (at > -0.5) & (at < size - 0.5)
    at = np.clip(at, 0, size - 1)
    weights = np.maximum(0, 1 - np.abs(at[:, :, None] - np.arange(size, dtype=np.float32)))
    return weights.astype(np.float32), inside.astype(np.float32)


def samplers(scale: Array, shift: Array, size: int) -> tuple[Array, Array, Array]:
    """What picks rows (p, s, s) and columns (p, s, s, transposed), and the mask (p, s, s) of what both have."""
    rows, in_rows = _sampler(scale[:, 0], shift[:, 0], size)
    columns, in_columns = _sampler(scale[:, 1], shift[:, 1], size)
    return rows, columns.transpose(0, 2, 1), in_rows[:, :, None] * in_columns[:, None, :]


def _step(first: Array, second: Array, scale: Array, shift: Array) -> tuple[Array, Array]:
    """One Gauss-Newton step."""
    size = first.shape[1]
    rows, columns, mask = samplers(scale, shift, size)
    weight = mask.sum((1, 2))
    a = _standard(first, mask, weight)
    moved: Array = rows @ second @ columns
    b = _standard(moved, mask, weight)
    u = _places(size)
    down, across = np.gradient(b, axis=1) * (size / 2), np.gradient(b, axis=2) * (size / 2)
    slopes = np.stack([down * u[:, None], across * u[None, :], down, across, b, np.ones_like(b)], 1)
    slopes *= mask[:, None]
    slopes = slopes.reshape(len(a), 6, size * size)
    squares = slopes @ slopes.transpose(0, 2, 1)
    squares += RIDGE * weight[:, None, None] * np.eye(6, dtype=np.float32)
    wanted = slopes @ ((a - b) * mask).reshape(len(a), size * size, 1)
    step = np.linalg.solve(squares, wanted)[..., 0]
    scale = np.clip(scale + step[:, :2] * (1 + scale), -MOST_SCALE, MOST_SCALE)
    shift = np.clip(shift + step[:, 2:4] * (1 + scale), -MOST_SHIFT, MOST_SHIFT)
    return scale.astype(np.float32), shift.astype(np.float32)


def _standard(pictures: Array, mask: Array, weight: Array) -> Array:
    """About a mean of zero with a variance of one where the mask is one, and zero elsewhere."""
    centred = _centred(pictures, mask, weight)
    spread = np.sqrt((centred * centred).sum((1, 2)) / weight)
    standard: Array = centred / np.maximum(spread, 1e-3)[:, None, None]
    return standard
