"""Perceptual hashes of small images and of their mirror images, and candidate pairs with similar hashes.

The hashes are ImageHash's: `phash` (Zauner 2010) and `dhash`, 64 bits each. `near.py` confirms the candidates.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ensemble.check.align import luminance
from ensemble.core.parallel import map_parts
from ensemble.core.predictions import Ints
from ensemble.data.preprocess import Pixels

Words = npt.NDArray[np.uint64]
Progress = Callable[[int, int], None]

FLAT = 8.0
"""Standard deviation in grey levels of 255 below which `phash` and `dhash` mostly compare noise."""
PHASH, DHASH, FLAT_RADIUS = 14, 10, 4
"""Largest Hamming distances, of 64 bits, of a candidate pair: `phash`, `dhash`, `average_hash` of flat images."""
MAX_PROPOSALS = 3_000_000
"""Number of candidate pairs beyond which the distance limits are lowered."""
BLOCK = 128, 4096
"""Block of hashes compared at a time, which fits into the cache of one core."""


@dataclass(frozen=True)
class Hashes:
    """Hashes of n images, uint64 (2, n) each: of the image and of its mirror image.

    average: uint64 (2, m), of the m flat images only.  flat: int64 (m,), indices of the flat images.
    """

    phash: Words
    dhash: Words
    average: Words
    flat: Ints


@dataclass(frozen=True)
class Proposals:
    """q candidate pairs. first, second: int64 (q,), first < second.  mirrored: bool (q,), first is flipped."""

    first: Ints
    second: Ints
    mirrored: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.first)

    def take(self, rows: slice | npt.NDArray[Any]) -> Proposals:
        """The pairs at `rows`: indices, a slice or a mask."""
        return Proposals(self.first[rows], self.second[rows], self.mirrored[rows])


def hashes_of(pictures: Pixels, progress: Progress | None = None) -> Hashes:
    """The hashes of images uint8 (n, s, s, 3). progress: called with (images done, images)."""
    parts = [np.zeros((3, 2, 0), np.uint64)]
    flat = [np.zeros(0, bool)]
    for done, (words, is_flat) in map_parts(_words, pictures):
        parts.append(words)
        flat.append(is_flat)
        if progress:
            progress(done, len(pictures))
    phash, dhash, average = np.concatenate(parts, axis=2)
    rows = np.flatnonzero(np.concatenate(flat))
    return Hashes(phash, dhash, average[:, rows], rows)


def _words(pictures: Pixels) -> tuple[Words, npt.NDArray[np.bool_]]:
    """phash, dhash and, for flat images, average_hash, uint64 (3, 2, p), and whether each is flat, bool (p,)."""
    import imagehash

    words = np.zeros((3, 2, len(pictures)), np.uint64)
    flat = luminance(np.asarray(pictures)).std((1, 2)) < FLAT
    for row in range(len(pictures)):
        image = Image.fromarray(pictures[row]).convert("L")
        for side, view in enumerate((image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))):
            words[0, side, row] = _word(imagehash.phash(view))
            words[1, side, row] = _word(imagehash.dhash(view))
            if flat[row]:
                words[2, side, row] = _word(imagehash.average_hash(view))
    return words, flat


def _word(image_hash: object) -> int:
    """The 64 bits of an ImageHash as an integer."""
    return int.from_bytes(np.packbits(image_hash.hash).tobytes(), "big")  # type: ignore[attr-defined]


def proposals(hashes: Hashes, limit: int = MAX_PROPOSALS) -> Proposals:
    """The pairs within the distance limit of either hash, each at most once plain and once mirrored.

    While there are more than `limit`, the distance limits are lowered by two bits: if many images are similar to
    many others, only the most similar pairs are worth comparing.
    """
    all_rows = np.arange(hashes.phash.shape[1])
    pairs = [
        *_near([(hashes.phash, PHASH), (hashes.dhash, DHASH)], all_rows, limit),
        *_near([(hashes.average, FLAT_RADIUS)], hashes.flat, limit),
    ]
    n = max(1, len(all_rows))
    encoded = [(mirrored * n + first) * n + second for first, second, mirrored in pairs]
    keys = np.unique(np.concatenate([np.zeros(0, np.int64), *encoded]))
    return Proposals(keys // n % n, keys % n, keys // (n * n) == 1)


def _near(words: list[tuple[Words, int]], rows: Ints, limit: int) -> list[tuple[Ints, Ints, int]]:
    """(first, second, mirrored) of the pairs with any hash within its radius; few more than `limit`."""
    pairs: list[tuple[Ints, Ints, int]] = []
    for reduction in range(0, max(radius for _, radius in words) + 1, 2):
        tightened = [(word, max(0, radius - reduction)) for word, radius in words]
        pairs, count = [], 0
        for mirrored in (0, 1):
            for first, second in _pairs([(w[mirrored], w[0], radius) for w, radius in tightened]):
                if count <= limit:
                    pairs.append((rows[first], rows[second], mirrored))
                    count += len(first)
        if count <= limit:
            break
    return pairs


def _pairs(words: list[tuple[Words, Words, int]]) -> Iterator[tuple[Ints, Ints]]:
    """Yields the pairs i < j with at most `radius` bits between the first array at i and the second at j."""
    n, (height, width) = len(words[0][0]), BLOCK

    def row_of_blocks(top: int) -> tuple[Ints, Ints]:
        firsts, seconds = [], []
        for left in range(top - top % width, n, width):
            near = np.zeros((min(height, n - top), min(width, n - left)), bool)
            for first, second, radius in words:
                bits = np.bitwise_count(first[top : top + height, None] ^ second[None, left : left + width])
                near |= bits <= radius
            i, j = np.divmod(np.flatnonzero(near), near.shape[1])
            later = i + top < j + left
            firsts.append(i[later] + top)
            seconds.append(j[later] + left)
        return np.concatenate(firsts), np.concatenate(seconds)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(row_of_blocks, range(0, n, height))
