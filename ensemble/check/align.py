"""Registration of pairs of small images: scale and shift of one against the other, and their correlation.

Gauss-Newton steps (Lucas and Kanade 1981) on scale and shift of rows and of columns, with gain and offset as
further unknowns, which makes it invariant to brightness and contrast; many pairs in one batch.
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
"""Side in pixels of the first, coarse registration."""
STEPS = 4
"""Gauss-Newton steps at each size; further steps find one pair in a thousand more."""
MAX_SCALE, MAX_SHIFT = 0.2, 0.25
"""Limits of registration, in half sides; images further apart are not `slightly cropped`."""
RIDGE = 1e-3
"""Ridge penalty that keeps images without texture in place, relative to a pixel variance of one."""
FINE_SIGMA, COARSE_SIGMA = 0.6, 2.5
"""Standard deviations in pixels of the two Gaussians whose difference is the band-pass filter for detail."""
LOCAL_SIGMA, NOISE_LEVEL = 3.0, 3.0
"""Standard deviation in pixels of the local normalisation of detail, which weights all regions alike, and the grey
levels of 255 added to it, so that noise is not amplified."""


@dataclass(frozen=True)
class Overlay:
    """p registered pairs.

    scale, shift: float32 (p, 2), rows and columns: the position u in [-1, 1] of the first image is
    (1 + scale) u + shift of the second.  correlation, detail: float32 (p,), Pearson correlation over the overlap,
    of luminance and of its locally normalised detail.  residual: float32 (p,), standard deviation in grey levels of
    255 of the first image after regression on the second.
    """

    scale: Array
    shift: Array
    correlation: Array
    detail: Array
    residual: Array


def luminance(pixels: Pixels) -> Array:
    """Luminance of ITU-R 601: uint8 (p, s, s, 3) -> float32 (p, s, s)."""
    grey: Array = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return grey


def shrunk(pictures: Array, size: int) -> Array:
    """Downsampling (p, s, s) -> (p, size, size) by block means; s is a multiple of size."""
    p, s, _ = pictures.shape
    block = s // size
    means: Array = pictures.reshape(p, size, block, size, block).mean((2, 4), dtype=np.float32)
    return means


def registered(first: Array, second: Array, scale: Array, shift: Array) -> tuple[Array, Array]:
    """Scale and shift that register `second` with `first`, (p, s, s) each, from an initial estimate."""
    for _ in range(STEPS):
        scale, shift = _step(first, second, scale, shift)
    return scale, shift


@dataclass(frozen=True)
class Prepared:
    """Images (p, s, s), their detail, and `even`, the locally normalised detail: computed once for many pairs."""

    pictures: Array
    detail: Array
    even: Array

    def take(self, rows: npt.NDArray[Any]) -> Prepared:
        """The images at `rows`."""
        return Prepared(self.pictures[rows], self.detail[rows], self.even[rows])

    def flipped(self, mask: npt.NDArray[np.bool_]) -> Prepared:
        """With the images where `mask`, bool (p,), is true flipped horizontally."""
        parts = [
            np.where(mask[:, None, None], array[:, :, ::-1], array)
            for array in (self.pictures, self.detail, self.even)
        ]
        return Prepared(*parts)


def prepared(pictures: Array) -> Prepared:
    """The inputs that `overlaid` needs, of images (p, s, s)."""
    detail = band(pictures)
    return Prepared(pictures, detail, _normalised(detail))


def overlaid(first: Prepared, second: Prepared, scale: Array, shift: Array) -> Overlay:
    """Register pairs of images (p, s, s) from `scale` and `shift`, (p, 2) each, and correlate them."""
    scale, shift = registered(first.pictures, second.pictures, scale, shift)
    rows, columns, mask = samplers(scale, shift, first.pictures.shape[1])
    warped: Array = rows @ second.pictures @ columns
    warped_detail: Array = rows @ second.detail @ columns
    luminance_correlation = correlation(first.pictures, warped, mask)
    detail_correlation = correlation(first.even, _normalised(warped_detail), mask)
    return Overlay(
        scale,
        shift,
        luminance_correlation,
        detail_correlation,
        _residual(first.pictures, luminance_correlation, mask),
    )


def correlation(first: Array, second: Array, mask: Array) -> Array:
    """Pearson correlation, float32 (p,), of two (p, s, s) where `mask` is one; 0 if either is constant."""
    weight = mask.sum((1, 2))
    a, b = (_centred(images, mask, weight) for images in (first, second))
    squares = (a * a).sum((1, 2)) * (b * b).sum((1, 2))
    product = (a * b).sum((1, 2)) / np.sqrt(np.maximum(squares, 1e-6))
    return np.where(squares > 1e-6, product, 0).astype(np.float32)


def band(pictures: Array) -> Array:
    """Band-pass filter of (p, s, s): the difference of Gaussians of `FINE_SIGMA` and `COARSE_SIGMA` pixels."""
    fine = _blurred(pictures, FINE_SIGMA)
    detail: Array = fine - _blurred(fine, COARSE_SIGMA)
    return detail


def _normalised(detail: Array) -> Array:
    """Detail divided by its local standard deviation.

    A strong edge that many images share, such as a dark frame or an object before a plain background, then weighs
    no more than the texture beside it.
    """
    even: Array = detail / np.sqrt(_blurred(detail * detail, LOCAL_SIGMA) + NOISE_LEVEL**2)
    return even


def _blurred(pictures: Array, sigma: float) -> Array:
    for axis in (1, 2):
        pictures = gaussian_filter1d(pictures, sigma, axis=axis, mode="nearest")
    return pictures


def _residual(first: Array, correlations: Array, mask: Array) -> Array:
    weight = mask.sum((1, 2))
    deviation = np.sqrt((_centred(first, mask, weight) ** 2).sum((1, 2)) / weight)
    residual: Array = deviation * np.sqrt(np.maximum(0, 1 - correlations**2))
    return residual


def _centred(pictures: Array, mask: Array, weight: Array) -> Array:
    mean = (pictures * mask).sum((1, 2)) / weight
    centred: Array = (pictures - mean[:, None, None]) * mask
    return centred


def _pixel_centres(size: int) -> Array:
    """Pixel centres, from -1 to 1."""
    return ((2 * np.arange(size, dtype=np.float32) + 1) / size - 1).astype(np.float32)


def _sampler(scale: Array, shift: Array, size: int) -> tuple[Array, Array]:
    """Weights of linear interpolation along one axis, (p, size, size), and the mask of valid ones, (p, size)."""
    positions = (1 + scale[:, None]) * _pixel_centres(size) + shift[:, None]
    pixel = (positions + 1) * size / 2 - 0.5
    inside = (pixel > -0.5) & (pixel < size - 0.5)
    pixel = np.clip(pixel, 0, size - 1)
    weights = np.maximum(0, 1 - np.abs(pixel[:, :, None] - np.arange(size, dtype=np.float32)))
    return weights.astype(np.float32), inside.astype(np.float32)


def samplers(scale: Array, shift: Array, size: int) -> tuple[Array, Array, Array]:
    """Sampling matrices of rows (p, s, s) and columns (p, s, s, transposed), and the overlap mask (p, s, s)."""
    rows, in_rows = _sampler(scale[:, 0], shift[:, 0], size)
    columns, in_columns = _sampler(scale[:, 1], shift[:, 1], size)
    return rows, columns.transpose(0, 2, 1), in_rows[:, :, None] * in_columns[:, None, :]


def _step(first: Array, second: Array, scale: Array, shift: Array) -> tuple[Array, Array]:
    """One Gauss-Newton step."""
    size = first.shape[1]
    rows, columns, mask = samplers(scale, shift, size)
    weight = mask.sum((1, 2))
    a = _standard(first, mask, weight)
    warped: Array = rows @ second @ columns
    b = _standard(warped, mask, weight)
    u = _pixel_centres(size)
    row_slope, column_slope = np.gradient(b, axis=1) * (size / 2), np.gradient(b, axis=2) * (size / 2)
    jacobian = np.stack(
        [row_slope * u[:, None], column_slope * u[None, :], row_slope, column_slope, b, np.ones_like(b)], 1
    )
    jacobian *= mask[:, None]
    jacobian = jacobian.reshape(len(a), 6, size * size)
    normal_matrix = jacobian @ jacobian.transpose(0, 2, 1)
    normal_matrix += RIDGE * weight[:, None, None] * np.eye(6, dtype=np.float32)
    right_side = jacobian @ ((a - b) * mask).reshape(len(a), size * size, 1)
    step = np.linalg.solve(normal_matrix, right_side)[..., 0]
    scale = np.clip(scale + step[:, :2] * (1 + scale), -MAX_SCALE, MAX_SCALE)
    shift = np.clip(shift + step[:, 2:4] * (1 + scale), -MAX_SHIFT, MAX_SHIFT)
    return scale.astype(np.float32), shift.astype(np.float32)


def _standard(pictures: Array, mask: Array, weight: Array) -> Array:
    """Standardised to mean 0 and variance 1 where the mask is one, and zero elsewhere."""
    centred = _centred(pictures, mask, weight)
    deviation = np.sqrt((centred * centred).sum((1, 2)) / weight)
    standard: Array = centred / np.maximum(deviation, 1e-3)[:, None, None]
    return standard
