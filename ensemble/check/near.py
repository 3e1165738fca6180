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

WHOLE, DETAIL = 0.8, 0.85
"""What luminance and its detail must correlate by."""
CODEC, FLAT_WHOLE = 2.0, 0.97
"""Or: what is left, in grey levels of 255, is no more than a codec leaves, and luminance correlates by so much."""
GLANCE, GLANCE_WHOLE = 8, 0.7
"""Pixels a side, and what luminance must correlate by at it, for a pair to be registered at all."""
ALL, IDLE, FOUND = 20, 1, 0.0005
"""Pairs for each picture up to which all are registered, at 0.5 to 1.7 ms of a core; beyond, the pairs for each
picture of which fewer than this share must be the same for the rest to be left."""
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
    used, places = np.unique(np.concatenate([proposed.first, proposed.second]), return_inverse=True)
    first, second = places.reshape(2, -1)
    parts = []
    for done, (pairs, whole, detail) in _confirmed(
        prepare(np.asarray(pictures[used])), Proposals(first, second, proposed.mirrored)
    ):
        parts.append((Proposals(used[pairs.first], used[pairs.second], pairs.mirrored), whole, detail))
        if progress:
            progress(n + int(n * done), 2 * n)
    return _each_once(parts)


def at_a_glance(pictures: Pixels, proposed: Proposals) -> Proposals:
    """Those of `proposed` that are alike as they lie: about one in five, and nearly all that are the same."""
    tiny = _unit(np.concatenate([np.zeros((0, GLANCE, GLANCE), np.float32), *_tiny(pictures)]))
    return proposed.take(_likeness(tiny, proposed) >= GLANCE_WHOLE)


def _tiny(pictures: Pixels) -> Iterator[Array]:
    for start in range(0, len(pictures), 4096):
        yield shrunk(luminance(pictures[start : start + 4096]), GLANCE)


def _unit(pictures: Array) -> Array:
    """(n, s, s) about a mean of zero and of length one each."""
    centred: Array = pictures - pictures.mean((1, 2), keepdims=True)
    unit: Array = centred / np.maximum(np.sqrt((centred**2).sum((1, 2), keepdims=True)), 1e-6)
    return unit


def _likeness(tiny: Array, pairs: Proposals) -> Array:
    """The product of the pictures of each pair, float32 (p,)."""
    likeness = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), 65536):
        part = pairs.take(slice(start, start + 65536))
        first = np.where(part.mirrored[:, None, None], tiny[part.first][:, :, ::-1], tiny[part.first])
        likeness[start : start + 65536] = (first * tiny[part.second]).sum((1, 2))
    return likeness


def is_same(found: Overlay) -> npt.NDArray[np.bool_]:
    """bool (p,): which pairs show the same picture."""
    textured = (found.whole >= WHOLE) & (found.detail >= DETAIL)
    return textured | ((found.residual <= CODEC) & (found.whole >= FLAT_WHOLE))


@dataclass(frozen=True)
class Pictures:
    """The n pictures that pairs are made of: as they are, and what every pair asks of them, computed once.

    pixels: uint8 (n, s, s, 3).  coarse: (n, COARSE, COARSE).  small: at `SMALL` pixels a side.
    """

    pixels: Pixels
    coarse: Array
    small: Prepared

    def large(self, rows: Ints) -> Prepared:
        """At their own size, which few pairs are looked at."""
        return prepared(luminance(self.pixels[rows]))


def prepare(pixels: Pixels) -> Pictures:
    """What `overlay` asks of uint8 (n, s, s, 3), by several threads."""
    blocks = [slice(start, start + CHUNK) for start in range(0, len(pixels), CHUNK)]

    def one(block: slice) -> tuple[Array, Prepared]:
        grey = luminance(pixels[block])
        return shrunk(grey, COARSE), prepared(shrunk(grey, SMALL))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(one, blocks)) or [one(slice(0, 0))]
    small = (np.concatenate([getattr(part, name) for _, part in parts]) for name in ("pictures", "detail", "even"))
    return Pictures(pixels, np.concatenate([coarse for coarse, _ in parts]), Prepared(*small))


def overlay(pictures: Pictures, pairs: Proposals) -> tuple[Ints, Overlay]:
    """The pairs that stand a look at each size, int64 (p,), and how they lie over each other at the last."""
    a, b = pictures.coarse[pairs.first], pictures.coarse[pairs.second]
    a = np.where(pairs.mirrored[:, None, None], a[:, :, ::-1], a)
    scale, shift = registered(a, b, *[np.zeros((len(pairs), 2), np.float32)] * 2)
    rows, columns, mask = samplers(scale, shift, COARSE)
    moved: Array = rows @ b @ columns
    kept = np.flatnonzero(correlation(a, moved, mask) >= COARSE_WHOLE)
    take, size = pictures.small.take, SMALL
    while True:
        some = pairs.take(kept)
        found = overlaid(take(some.first).turned(some.mirrored), take(some.second), scale[kept], shift[kept])
        if size == pictures.pixels.shape[1]:
            return kept, found
        worth = is_same(found) | (found.detail >= HALF_DETAIL)
        scale[kept], shift[kept] = found.scale, found.shift
        kept, take, size = kept[worth], pictures.large, pictures.pixels.shape[1]


Part = tuple[Proposals, Array, Array]


def _confirmed(pictures: Pictures, proposed: Proposals) -> Iterator[tuple[float, Part]]:
    """(share of the proposals that is done, confirmed pairs with both correlations), chunk by chunk.

    Where there are more than `ALL` for each picture, the likest come first, and the rest is left when `IDLE` for
    each picture have confirmed next to nothing: photographs of skin look so alike that the hashes propose nearly
    every pair.
    """
    each = max(1, len(pictures.coarse))
    many = len(proposed) > ALL * each
    if many:
        proposed = proposed.take(np.argsort(-_own_likeness(pictures, proposed), kind="stable"))
    size = max(CHUNK, IDLE * each) if many else max(1, len(proposed))
    for start in range(0, len(proposed), size):
        count = 0
        for done, part in _looked_at(pictures, proposed.take(slice(start, start + size))):
            count += len(part[0])
            yield (start + done) / len(proposed), part
        if many and count < FOUND * size:
            return


def _own_likeness(pictures: Pictures, pairs: Proposals) -> Array:
    """How alike the detail of each pair is, once what all pictures share is taken off; float32 (p,)."""
    detail = _unit(prepared(pictures.coarse).even)
    shared = (detail + detail[:, :, ::-1]).mean(0) / 2  # of both ways round, as pairs are compared both ways round
    return _likeness(_unit(detail - shared), pairs)


def _looked_at(pictures: Pictures, proposed: Proposals) -> Iterator[tuple[int, Part]]:
    """(proposals done, confirmed pairs with both correlations), chunk by chunk."""

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
