"""Rows of different lengths, laid out so that the first cells of all rows lie together, then the second ones.

A loop over these layers is a few operations on long arrays, where a loop over rows is many on short ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ensemble.predictions import Ints

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Ragged:
    """The True cells of a mask (rows, columns), at least one a row, the longest rows first.

    order: the mask's row of each of ours, (rows,).  sizes: how many of our rows, always the first ones, reach
    each layer.  row, column: our row and the mask's column of each cell, (cells,); columns ascend along a row.
    """

    order: Ints
    sizes: tuple[int, ...]
    row: Ints
    column: Ints

    def layers(self) -> Iterator[tuple[int, slice]]:
        """For each layer how many rows reach it, and which cells it is."""
        start = 0
        for size in self.sizes:
            yield size, slice(start, start + size)
            start += size


def ragged(mask: Mask) -> Ragged:
    """The True cells of `mask`."""
    lengths = np.count_nonzero(mask, axis=1)
    order = np.argsort(-lengths, kind="stable")
    lengths = lengths[order]
    row, column = np.nonzero(mask[order])
    starts = np.cumsum(lengths) - lengths
    sizes = tuple(np.searchsorted(-lengths, -np.arange(lengths.max(initial=0))).tolist())
    cells = np.concatenate([starts[:size] + layer for layer, size in enumerate(sizes)] or [starts])
    return Ragged(order, sizes, row[cells], column[cells])
