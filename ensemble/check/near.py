"""Near duplicates among small images: hashes give candidates, the correlation of registered images confirms them.

The thresholds were chosen on synthetic duplicates of a few seeds (`tests/helpers/duplicate_factory.py`) and by eye
on real photographs; the tests and the benchmark use other seeds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from ensemble.check.align import (
    COARSE,
    Array,
    Overlay,
    Prepared,
    correlation,
    luminance,
    overlaid,
    prepared,
    registered,
    samplers,
    shrunk,
)
from ensemble.check.hashes import Progress, Proposals, hashes_of, proposals
from ensemble.core.predictions import Ints
from ensemble.data.preprocess import Pixels

MIN_CORRELATION, MIN_DETAIL = 0.8, 0.85
"""Smallest correlations of luminance and of its detail of a duplicate."""
MAX_CODEC_RESIDUAL, MIN_FLAT_CORRELATION = 2.0, 0.97
"""Alternatively: the largest residual that a codec leaves, in grey levels of 255, and the smallest correlation."""
TINY, MIN_TINY_CORRELATION = 8, 0.7
"""Side in pixels of the first, unregistered comparison, and the smallest correlation at it."""
MAX_PAIRS_PER_IMAGE, BLOCK_PER_IMAGE, MIN_CONFIRMED_SHARE = 20, 1, 0.0005
"""Up to the first number of candidates per image, all are registered, at 0.5 to 1.7 ms of a core. Beyond it, the
search stops after a block, the second number of candidates per image, with fewer than this share of duplicates."""
MIN_COARSE_CORRELATION = 0.7
"""Smallest correlation of luminance at `COARSE` pixels for a comparison at a larger size."""
MIN_SMALL_DETAIL = 0.6
"""Smallest correlation of detail at `SMALL` pixels for a comparison at `LARGE`."""
SMALL, LARGE = 32, 64
"""Side in pixels of the compared images: for data sets of small images, and for others."""
CHUNK = 512
"""Pairs registered in one batch."""


@dataclass(frozen=True)
class NearPairs:
    """q confirmed pairs of images, each once, by decreasing correlation.

    first, second: int64 (q,), first < second.  mirrored: bool (q,).  correlation, detail: float32 (q,).
    """

    first: Ints
    second: Ints
    mirrored: npt.NDArray[np.bool_]
    correlation: Array
    detail: Array

    def __len__(self) -> int:
        return len(self.first)


def near_pairs(pictures: Pixels, progress: Progress | None = None) -> NearPairs:
    """The near duplicates among images uint8 (n, s, s, 3), s either `SMALL` or `LARGE`.

    progress: called with (steps done, steps); hashing is half of the steps.
    """
    n = len(pictures)
    hashes = hashes_of(pictures, (lambda done, _: progress(done, 2 * n)) if progress else None)
    candidates = similar_unregistered(pictures, proposals(hashes))
    used_rows, positions = np.unique(np.concatenate([candidates.first, candidates.second]), return_inverse=True)
    first, second = positions.reshape(2, -1)
    parts = []
    for done, (pairs, correlations, detail) in _confirmed(
        prepare(np.asarray(pictures[used_rows])), Proposals(first, second, candidates.mirrored)
    ):
        parts.append(
            (Proposals(used_rows[pairs.first], used_rows[pairs.second], pairs.mirrored), correlations, detail)
        )
        if progress:
            progress(n + int(n * done), 2 * n)
    return _unique_pairs(parts)


def similar_unregistered(pictures: Pixels, candidates: Proposals) -> Proposals:
    """The candidates that correlate without registration: about one in five, and nearly all duplicates."""
    tiny = _unit(np.concatenate([np.zeros((0, TINY, TINY), np.float32), *_tiny(pictures)]))
    return candidates.take(_similarity(tiny, candidates) >= MIN_TINY_CORRELATION)


def _tiny(pictures: Pixels) -> Iterator[Array]:
    for start in range(0, len(pictures), 4096):
        yield shrunk(luminance(pictures[start : start + 4096]), TINY)


def _unit(pictures: Array) -> Array:
    """Images (n, s, s) centred and scaled to unit norm."""
    centred: Array = pictures - pictures.mean((1, 2), keepdims=True)
    unit: Array = centred / np.maximum(np.sqrt((centred**2).sum((1, 2), keepdims=True)), 1e-6)
    return unit


def _similarity(images: Array, pairs: Proposals) -> Array:
    """Dot products of the two images of each pair, float32 (p,)."""
    similarities = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), 65536):
        part = pairs.take(slice(start, start + 65536))
        first = np.where(part.mirrored[:, None, None], images[part.first][:, :, ::-1], images[part.first])
        similarities[start : start + 65536] = (first * images[part.second]).sum((1, 2))
    return similarities


def is_duplicate(overlays: Overlay) -> npt.NDArray[np.bool_]:
    """bool (p,): whether each pair is a duplicate."""
    textured = (overlays.correlation >= MIN_CORRELATION) & (overlays.detail >= MIN_DETAIL)
    return textured | ((overlays.residual <= MAX_CODEC_RESIDUAL) & (overlays.correlation >= MIN_FLAT_CORRELATION))


@dataclass(frozen=True)
class Pictures:
    """n images with the inputs of `overlay` at each size, computed once for all pairs.

    pixels: uint8 (n, s, s, 3).  coarse: luminance (n, COARSE, COARSE).  small: at `SMALL` pixels a side.
    """

    pixels: Pixels
    coarse: Array
    small: Prepared

    def large(self, rows: Ints) -> Prepared:
        """The inputs at full size, computed on demand, as few pairs need them."""
        return prepared(luminance(self.pixels[rows]))


def prepare(pixels: Pixels) -> Pictures:
    """The inputs of `overlay` for images uint8 (n, s, s, 3), computed in threads."""
    blocks = [slice(start, start + CHUNK) for start in range(0, len(pixels), CHUNK)]

    def prepare_block(block: slice) -> tuple[Array, Prepared]:
        grey = luminance(pixels[block])
        return shrunk(grey, COARSE), prepared(shrunk(grey, SMALL))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(prepare_block, blocks)) or [prepare_block(slice(0, 0))]
    small = (np.concatenate([getattr(part, name) for _, part in parts]) for name in ("pictures", "detail", "even"))
    return Pictures(pixels, np.concatenate([coarse for coarse, _ in parts]), Prepared(*small))


def overlay(pictures: Pictures, pairs: Proposals) -> tuple[Ints, Overlay]:
    """Indices of the pairs that pass at every size, int64 (p,), and their overlays at the last size."""
    a, b = pictures.coarse[pairs.first], pictures.coarse[pairs.second]
    a = np.where(pairs.mirrored[:, None, None], a[:, :, ::-1], a)
    scale, shift = registered(a, b, *[np.zeros((len(pairs), 2), np.float32)] * 2)
    rows, columns, mask = samplers(scale, shift, COARSE)
    warped: Array = rows @ b @ columns
    remaining = np.flatnonzero(correlation(a, warped, mask) >= MIN_COARSE_CORRELATION)
    take, size = pictures.small.take, SMALL
    while True:
        remaining_pairs = pairs.take(remaining)
        overlays = overlaid(
            take(remaining_pairs.first).flipped(remaining_pairs.mirrored),
            take(remaining_pairs.second),
            scale[remaining],
            shift[remaining],
        )
        if size == pictures.pixels.shape[1]:
            return remaining, overlays
        promising = is_duplicate(overlays) | (overlays.detail >= MIN_SMALL_DETAIL)
        scale[remaining], shift[remaining] = overlays.scale, overlays.shift
        remaining, take, size = remaining[promising], pictures.large, pictures.pixels.shape[1]


Part = tuple[Proposals, Array, Array]


def _confirmed(pictures: Pictures, candidates: Proposals) -> Iterator[tuple[float, Part]]:
    """Yields (share of the candidates done, confirmed pairs with both correlations) for each chunk.

    With more than `MAX_PAIRS_PER_IMAGE` candidates per image, the most similar come first, and the search stops
    after a block of `BLOCK_PER_IMAGE` per image that confirms almost none: photographs of skin are so similar that
    nearly every pair is a candidate.
    """
    image_count = max(1, len(pictures.coarse))
    many = len(candidates) > MAX_PAIRS_PER_IMAGE * image_count
    if many:
        candidates = candidates.take(np.argsort(-_detail_similarity(pictures, candidates), kind="stable"))
    size = max(CHUNK, BLOCK_PER_IMAGE * image_count) if many else max(1, len(candidates))
    for start in range(0, len(candidates), size):
        count = 0
        for done, part in _compared(pictures, candidates.take(slice(start, start + size))):
            count += len(part[0])
            yield (start + done) / len(candidates), part
        if many and count < MIN_CONFIRMED_SHARE * size:
            return


def _detail_similarity(pictures: Pictures, pairs: Proposals) -> Array:
    """Similarity of the detail of each pair after subtracting the mean of all images; float32 (p,)."""
    detail = _unit(prepared(pictures.coarse).even)
    shared = (detail + detail[:, :, ::-1]).mean(0) / 2  # with mirror images, as pairs are compared with them
    return _similarity(_unit(detail - shared), pairs)


def _compared(pictures: Pictures, candidates: Proposals) -> Iterator[tuple[int, Part]]:
    """Yields (candidates done, confirmed pairs with both correlations) for each chunk."""

    def compare(start: int) -> tuple[int, Part]:
        chunk = candidates.take(slice(start, start + CHUNK))
        passed, overlays = overlay(pictures, chunk)
        same = is_duplicate(overlays)
        return start + len(chunk), (chunk.take(passed[same]), overlays.correlation[same], overlays.detail[same])

    # the matrix products are too small for threads of BLAS
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(compare, range(0, len(candidates), CHUNK))


def _unique_pairs(parts: list[Part]) -> NearPairs:
    """All pairs, sorted; of a pair found both plain and mirrored, the one with the higher correlation of detail."""
    first, second, mirrored, correlations, detail = (
        np.concatenate([np.zeros(0, dtype), *arrays])
        for dtype, arrays in (
            (np.int64, [pairs.first for pairs, _, _ in parts]),
            (np.int64, [pairs.second for pairs, _, _ in parts]),
            (np.bool_, [pairs.mirrored for pairs, _, _ in parts]),
            (np.float32, [correlation_part for _, correlation_part, _ in parts]),
            (np.float32, [detail_part for _, _, detail_part in parts]),
        )
    )
    order = np.lexsort((mirrored, -detail, second, first))
    is_first = np.ones(len(order), bool)
    is_first[1:] = np.diff(first[order]).astype(bool) | np.diff(second[order]).astype(bool)
    order = order[is_first]
    order = order[np.lexsort((second[order], first[order], -correlations[order]))]
    return NearPairs(first[order], second[order], mirrored[order], correlations[order], detail[order])
