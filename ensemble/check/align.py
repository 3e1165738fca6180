"""Two small pictures laid over each other: how much one is scaled and shifted against the other, and how alike.

Registration is by Gauss-Newton steps (Lucas and Kanade 1981) on scale and shift of rows and of columns, with gain and
offset as further unknowns, so that brightness and contrast do not matter; from coarse to fine, many pairs at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

Array = npt.NDArray[np.float32]

COARSE = 16
"""Pixels a side at which a pair is first laid over each other."""
STEPS = 6
"""Gauss-Newton steps at each size; further ones move nothing by a tenth of a pixel."""
MOST_SCALE, MOST_SHIFT = 0.2, 0.25
"""How far registration may go, in halves of a side: beyond it is not `slightly cropped`."""
RIDGE = 1e-3
"""What keeps a picture without texture from sliding anywhere, relative to a pixel's variance of one."""
FINE, BROAD = 0.6, 2.5
"""Pixels: the standard deviations between which `detail` lies."""


@dataclass(frozen=True)
class Overlay:
    """p pairs laid over each other.

    scale, shift: float32 (p, 2), rows and columns: the place u in [-1, 1] of the first picture is
    (1 + scale) u + shift of the second.  whole, colour, detail: float32 (p,), Pearson correlations over the pixels
    that both have: of luminance, of the three channels, and of luminance without what is smooth.
    """

    scale: Array
    shift: Array
    whole: Array
    colour: Array
    detail: Array


def luminance(pixels: npt.NDArray[np.uint8]) -> Array:
    """uint8 (p, s, s, 3) -> float32 (p, s, s), ITU-R 601."""
    return pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def shrunk(pictures: Array, size: int) -> Array:
    """(p, s, s) -> (p, size, size) by the mean of blocks; s is a multiple of size."""
    p, s, _ = pictures.shape
    block = s // size
    return pictures.reshape(p, size, block, size, block).mean((2, 4), dtype=np.float32)


def registered(first: Array, second: Array) -> tuple[Array, Array]:
    """Scale and shift, float32 (p, 2) each, that lay `second` over `first`; both float32 (p, s, s)."""
    scale = np.zeros((len(first), 2), np.float32)
    shift = np.zeros_like(scale)
    size = COARSE
    while size <= first.shape[1]:
        a, b = shrunk(first, size), shrunk(second, size)
        for _ in range(STEPS):
            scale, shift = _step(a, b, scale, shift)
        size *= 2
    return scale, shift


def overlaid(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> Overlay:
    """The pairs uint8 (p, s, s, 3) laid over each other; s is a power of two, 16 or more."""
    a, b = luminance(first), luminance(second)
    scale, shift = registered(a, b)
    rows, columns, mask = _samplers(scale, shift, a.shape[1])
    whole = correlation(a, rows @ b @ columns, mask)
    detail = correlation(band(a), rows @ band(b) @ columns, mask)
    return Overlay(scale, shift, whole, _colour(first, second, rows, columns, mask), detail)


def band(pictures: Array) -> Array:
    """(p, s, s) without what is smoother than `BROAD` and what is finer than `FINE` pixels."""
    fine = _blurred(pictures, FINE)
    return fine - _blurred(fine, BROAD)


def _blurred(pictures: Array, sigma: float) -> Array:
    for axis in (1, 2):
        pictures = gaussian_filter1d(pictures, sigma, axis=axis, mode="nearest")
    return pictures


def correlation(first: Array, second: Array, mask: Array) -> Array:
    """Pearson's, float32 (p,), of (p, s, s) each where `mask` is one; 0 where one of the two is constant."""
    weight = mask.sum((1, 2))
    a, b = (_centred(one, mask, weight) for one in (first, second))
    return _ratio((a * b).sum((1, 2)), (a * a).sum((1, 2)) * (b * b).sum((1, 2)))


def _colour(
    first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8], rows: Array, columns: Array, mask: Array
) -> Array:
    """Pearson's of all three channels together, each about its own mean."""
    weight = mask.sum((1, 2))
    products = np.zeros((3, len(first)), np.float32)
    for channel in range(3):
        a = _centred(first[..., channel].astype(np.float32), mask, weight)
        b = _centred(rows @ second[..., channel].astype(np.float32) @ columns, mask, weight)
        products += [(a * b).sum((1, 2)), (a * a).sum((1, 2)), (b * b).sum((1, 2))]
    return _ratio(products[0], products[1] * products[2])


def _centred(pictures: Array, mask: Array, weight: Array) -> Array:
    mean = (pictures * mask).sum((1, 2)) / weight
    return (pictures - mean[:, None, None]) * mask


def _ratio(product: Array, squares: Array) -> Array:
    return np.where(squares > 1e-6, product / np.sqrt(np.maximum(squares, 1e-6)), 0).astype(np.float32)


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


def _samplers(scale: Array, shift: Array, size: int) -> tuple[Array, Array, Array]:
    """What picks rows (p, s, s) and columns (p, s, s, transposed), and the mask (p, s, s) of what both have."""
    rows, in_rows = _sampler(scale[:, 0], shift[:, 0], size)
    columns, in_columns = _sampler(scale[:, 1], shift[:, 1], size)
    return rows, columns.transpose(0, 2, 1), in_rows[:, :, None] * in_columns[:, None, :]


def _step(first: Array, second: Array, scale: Array, shift: Array) -> tuple[Array, Array]:
    """One Gauss-Newton step."""
    size = first.shape[1]
    rows, columns, mask = _samplers(scale, shift, size)
    weight = mask.sum((1, 2))
    a = _standard(first, mask, weight)
    b = _standard(rows @ second @ columns, mask, weight)
    u = _places(size)
    down, across = np.gradient(b, axis=1) * (size / 2), np.gradient(b, axis=2) * (size / 2)
    slopes = np.stack([down * u[:, None], across * u[None, :], down, across, b, np.ones_like(b)], -1)
    slopes *= mask[..., None]
    slopes = slopes.reshape(len(a), -1, 6)
    squares = slopes.transpose(0, 2, 1) @ slopes
    squares += RIDGE * weight[:, None, None] * np.eye(6, dtype=np.float32)
    wanted = slopes.transpose(0, 2, 1) @ ((a - b) * mask).reshape(len(a), -1, 1)
    step = np.linalg.solve(squares, wanted)[..., 0]
    scale = np.clip(scale + step[:, :2] * (1 + scale), -MOST_SCALE, MOST_SCALE)
    shift = np.clip(shift + step[:, 2:4] * (1 + scale), -MOST_SHIFT, MOST_SHIFT)
    return scale.astype(np.float32), shift.astype(np.float32)


def _standard(pictures: Array, mask: Array, weight: Array) -> Array:
    """About a mean of zero with a variance of one, where the mask is one, and zero elsewhere."""
    centred = _centred(pictures, mask, weight)
    spread = np.sqrt((centred * centred).sum((1, 2)) / weight)
    return centred / np.maximum(spread, 1e-3)[:, None, None]
