"""Perceptual hashes of small pictures and of their mirror images, and the pairs whose hashes are near.

The hashes are ImageHash's: `phash` (Zauner 2010) and `dhash`, 64 bits each. They only propose; `near.py` decides.
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
from ensemble.core.parallel import in_parts
from ensemble.core.predictions import Ints
from ensemble.data.preprocess import Pixels

Words = npt.NDArray[np.uint64]
Progress = Callable[[int, int], None]

FLAT = 8.0
"""Grey levels of 255: the standard deviation below which what `phash` and `dhash` compare is mostly noise."""
PHASH, DHASH, FLAT_RADIUS = 14, 10, 4
"""Bits of 64 within which a pair is proposed: by either hash, and for two flat pictures by `average_hash`."""
MOST = 3_000_000
"""Proposals beyond which the hashes must be nearer to each other."""
BLOCK = 128, 4096
"""Hashes compared at a time: what fits into a core's own cache."""


@dataclass(frozen=True)
class Hashes:
    """n pictures, uint64 (2, n) each: of the picture and of its mirror image.

    average: of the m flat pictures alone.  flat: int64 (m,), which these are.
    """

    phash: Words
    dhash: Words
    average: Words
    flat: Ints


@dataclass(frozen=True)
class Proposals:
    """q pairs of pictures. first, second: int64 (q,), first < second.  mirrored: bool (q,), the first is turned."""

    first: Ints
    second: Ints
    mirrored: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.first)

    def take(self, rows: slice | npt.NDArray[Any]) -> Proposals:
        """Those at `rows`: indices, a slice or a mask."""
        return Proposals(self.first[rows], self.second[rows], self.mirrored[rows])


def hashes_of(pictures: Pixels, progress: Progress | None = None) -> Hashes:
    """The hashes of uint8 (n, s, s, 3). progress: called with (pictures done, pictures)."""
    parts = [np.zeros((3, 2, 0), np.uint64)]
    flat = [np.zeros(0, bool)]
    for done, (words, is_flat) in in_parts(_words, pictures):
        parts.append(words)
        flat.append(is_flat)
        if progress:
            progress(done, len(pictures))
    phash, dhash, average = np.concatenate(parts, axis=2)
    rows = np.flatnonzero(np.concatenate(flat))
    return Hashes(phash, dhash, average[:, rows], rows)


def _words(pictures: Pixels) -> tuple[Words, npt.NDArray[np.bool_]]:
    """phash, dhash and, of flat pictures, average_hash, uint64 (3, 2, p), and which are flat, bool (p,)."""
    import imagehash

    words = np.zeros((3, 2, len(pictures)), np.uint64)
    flat = luminance(np.asarray(pictures)).std((1, 2)) < FLAT
    for row in range(len(pictures)):
        image = Image.fromarray(pictures[row]).convert("L")
        for side, one in enumerate((image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))):
            words[0, side, row] = _word(imagehash.phash(one))
            words[1, side, row] = _word(imagehash.dhash(one))
            if flat[row]:
                words[2, side, row] = _word(imagehash.average_hash(one))
    return words, flat


def _word(found: object) -> int:
    """The 64 bits of an ImageHash as one number."""
    return int.from_bytes(np.packbits(found.hash).tobytes(), "big")  # type: ignore[attr-defined]


def proposals(hashes: Hashes, most: int = MOST) -> Proposals:
    """The pairs that either hash puts near each other, each once for the plain and once for the mirrored look.

    Where more than `most` are near, two bits fewer may differ, again and again: many pictures are then near to
    many, and only the nearest are worth a look.
    """
    everything = np.arange(hashes.phash.shape[1])
    found = [
        *_near([(hashes.phash, PHASH), (hashes.dhash, DHASH)], everything, most),
        *_near([(hashes.average, FLAT_RADIUS)], hashes.flat, most),
    ]
    n = max(1, len(everything))
    every = [(mirrored * n + first) * n + second for first, second, mirrored in found]
    keys = np.unique(np.concatenate([np.zeros(0, np.int64), *every]))
    return Proposals(keys // n % n, keys % n, keys // (n * n) == 1)


def _near(words: list[tuple[Words, int]], rows: Ints, most: int) -> list[tuple[Ints, Ints, int]]:
    """(first, second, mirrored) of the pairs of which one word is within its radius; few more than `most`."""
    found: list[tuple[Ints, Ints, int]] = []
    for less in range(0, max(radius for _, radius in words) + 1, 2):
        narrowed = [(word, max(0, radius - less)) for word, radius in words]
        found, count = [], 0
        for mirrored in (0, 1):
            for first, second in _pairs([(w[mirrored], w[0], radius) for w, radius in narrowed]):
                if count <= most:
                    found.append((rows[first], rows[second], mirrored))
                    count += len(first)
        if count <= most:
            break
    return found


def _pairs(words: list[tuple[Words, Words, int]]) -> Iterator[tuple[Ints, Ints]]:
    """The pairs i < j with few bits between the first words of i and the second of j."""
    n, (tall, wide) = len(words[0][0]), BLOCK

    def row_of_blocks(top: int) -> tuple[Ints, Ints]:
        firsts, seconds = [], []
        for left in range(top - top % wide, n, wide):
            near = np.zeros((min(tall, n - top), min(wide, n - left)), bool)
            for first, second, radius in words:
                bits = np.bitwise_count(first[top : top + tall, None] ^ second[None, left : left + wide])
                near |= bits <= radius
            i, j = np.divmod(np.flatnonzero(near), near.shape[1])
            later = i + top < j + left
            firsts.append(i[later] + top)
            seconds.append(j[later] + left)
        return np.concatenate(firsts), np.concatenate(seconds)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(row_of_blocks, range(0, n, tall))
