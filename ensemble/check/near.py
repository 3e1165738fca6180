"""Near duplicates among small pictures: hashes propose, the correlation of aligned pixels confirms.

The thresholds were chosen on planted pictures of a few seeds (`tests/planted.py`) and by eye on real photographs;
the tests and the benchmark use other seeds.
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
    correlation,
    luminance,
    overlaid,
    registered,
    samplers,
    shrunk,
)
from ensemble.check.hashes import Progress, Proposals, hashes_of, proposals
from ensemble.data.pixels import Pixels
from ensemble.predictions import Ints

WHOLE, DETAIL = 0.8, 0.85
"""What luminance and its detail must correlate by."""
CODEC, FLAT_WHOLE = 2.0, 0.97
"""Or: what is left, in grey levels of 255, is no more than a codec leaves, and luminance correlates by so much."""
GLANCE, GLANCE_WHOLE = 8, 0.7
"""Pixels a side, and what luminance must correlate by at it, for a pair to be registered at all."""
COARSE_WHOLE = 0.7
"""What luminance must correlate by at `COARSE` pixels, for a closer look to be worth while."""
HALF_DETAIL = 0.6
"""The same of detail at half the size, where the size is larger than `SMALL`."""
SMALL, LARGE = 32, 64
"""Pixels a side of the pictures that are compared: of small images, and of others."""
CHUNK = 512
"""Pairs that are laid over each other at a time."""


@dataclass(frozen=True)
class NearPairs:
    """q confirmed pairs of pictures, each once, the likest first.

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
    """The near duplicates among uint8 (n, s, s, 3), s either `SMALL` or `LARGE`.

    progress: called with (steps done, steps), hashing being half of them.
    """
    n = len(pictures)
    hashes = hashes_of(pictures, (lambda done, _: progress(done, 2 * n)) if progress else None)
    proposed = at_a_glance(pictures, proposals(hashes))
    parts = []
    for done, part in _confirmed(pictures, proposed):
        parts.append(part)
        if progress:
            progress(n + n * done // max(1, len(proposed)), 2 * n)
    return _each_once(parts)


def at_a_glance(pictures: Pixels, proposed: Proposals) -> Proposals:
    """Those of `proposed` that are alike as they lie: about one in five, and nearly all that are the same."""
    n = len(pictures)
    tiny = np.empty((n, GLANCE, GLANCE), np.float32)
    for start in range(0, n, 4096):
        tiny[start : start + 4096] = shrunk(luminance(pictures[start : start + 4096]), GLANCE)
    tiny -= tiny.mean((1, 2), keepdims=True)
    tiny /= np.maximum(np.sqrt((tiny**2).sum((1, 2), keepdims=True)), 1e-6)
    likeness = np.empty(len(proposed), np.float32)
    for start in range(0, len(proposed), 65536):
        part = proposed.take(slice(start, start + 65536))
        first = np.where(part.mirrored[:, None, None], tiny[part.first][:, :, ::-1], tiny[part.first])
        likeness[start : start + 65536] = (first * tiny[part.second]).sum((1, 2))
    return proposed.take(likeness >= GLANCE_WHOLE)


def is_same(found: Overlay) -> npt.NDArray[np.bool_]:
    """bool (p,): which pairs show the same picture."""
    textured = (found.whole >= WHOLE) & (found.detail >= DETAIL)
    return textured | ((found.residual <= CODEC) & (found.whole >= FLAT_WHOLE))


def overlay(pictures: Pixels, pairs: Proposals) -> tuple[Ints, Overlay]:
    """The pairs that stand a look at each size, int64 (p,), and how they lie over each other at the last."""
    first, second = (luminance(pictures[rows]) for rows in (pairs.first, pairs.second))
    first[pairs.mirrored] = first[pairs.mirrored][:, :, ::-1]
    kept: Ints = np.arange(len(pairs))
    scale: Array = np.zeros((len(pairs), 2), np.float32)
    shift = scale
    a, b = shrunk(first, COARSE), shrunk(second, COARSE)
    scale, shift = registered(a, b, scale, shift)
    rows, columns, mask = samplers(scale, shift, COARSE)
    moved: Array = rows @ b @ columns
    worth = correlation(a, moved, mask) >= COARSE_WHOLE
    size = SMALL
    while True:
        kept, first, second = kept[worth], first[worth], second[worth]
        scale, shift = scale[worth], shift[worth]
        found = overlaid(shrunk(first, size), shrunk(second, size), scale, shift)
        if size == first.shape[1]:
            return kept, found
        worth = is_same(found) | (found.detail >= HALF_DETAIL)
        scale, shift, size = found.scale, found.shift, 2 * size


Part = tuple[Proposals, Array, Array]


def _confirmed(pictures: Pixels, proposed: Proposals) -> Iterator[tuple[int, Part]]:
    """(proposals looked at, confirmed pairs with both correlations), chunk by chunk."""

    def look(start: int) -> tuple[int, Part]:
        chunk = proposed.take(slice(start, start + CHUNK))
        kept, found = overlay(pictures, chunk)
        same = is_same(found)
        return start + len(chunk), (chunk.take(kept[same]), found.whole[same], found.detail[same])

    # many small products, which BLAS's own threads would only wait for
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(look, range(0, len(proposed), CHUNK))


def _each_once(parts: list[Part]) -> NearPairs:
    """All pairs; one that is near both ways round is what it resembles more."""
    first, second, mirrored, whole, detail = (
        np.concatenate([np.zeros(0, kind), *found])
        for kind, found in (
            (np.int64, [pairs.first for pairs, _, _ in parts]),
            (np.int64, [pairs.second for pairs, _, _ in parts]),
            (np.bool_, [pairs.mirrored for pairs, _, _ in parts]),
            (np.float32, [one for _, one, _ in parts]),
            (np.float32, [one for _, _, one in parts]),
        )
    )
    order = np.lexsort((mirrored, -detail, second, first))
    fresh = np.ones(len(order), bool)
    fresh[1:] = np.diff(first[order]).astype(bool) | np.diff(second[order]).astype(bool)
    order = order[fresh]
    order = order[np.lexsort((second[order], first[order], -whole[order]))]
    return NearPairs(first[order], second[order], mirrored[order], whole[order], detail[order])
