"""Pairs of duplicate items, exact, near or mirrored, and their connected groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ensemble.check.items import AllItems
from ensemble.check.near import NearPairs
from ensemble.core.predictions import UNKNOWN, Ints, Texts

EXACT, NEAR, MIRRORED = "exact", "near", "mirrored"
KINDS = (EXACT, NEAR, MIRRORED)

MAX_COPIES = 100
"""Number of copies of one image up to which all pairs are listed; beyond it, each is paired with the first."""


@dataclass(frozen=True)
class Copies:
    """q pairs of items.

    first, second: int64 (q,), rows of AllItems, first < second.  kind: str (q,), one of `KINDS`.
    correlation: float32 (q,), of luminance after registration; 1 for exact copies.
    """

    first: Ints
    second: Ints
    kind: Texts
    correlation: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.first)

    def each(self) -> Iterator[tuple[int, int, str, float]]:
        """Yields (first, second, kind, correlation) of each pair."""
        columns = (self.first, self.second, self.kind, self.correlation)
        return zip(*(column.tolist() for column in columns), strict=True)

    def take(self, rows: npt.ArrayLike) -> Copies:
        """The pairs at `rows`: indices or a mask."""
        rows = np.asarray(rows)
        return Copies(self.first[rows], self.second[rows], self.kind[rows], self.correlation[rows])


def copies(items: AllItems, near: NearPairs) -> Copies:
    """All pairs: exact copies first, then near copies by decreasing correlation.

    near: pairs of indices of contents, as in `items.content`.
    """
    rows: dict[int, list[int]] = defaultdict(list)
    for row, content in enumerate(items.content.tolist()):
        rows[content].append(row)
    pairs = [(a, b, EXACT, 1.0) for content_rows in rows.values() for a, b in _pairs_within(content_rows)]
    for first_content, second_content, mirrored, correlation in zip(
        near.first.tolist(), near.second.tolist(), near.mirrored.tolist(), near.correlation.tolist(), strict=True
    ):
        kind = MIRRORED if mirrored else NEAR
        pairs += [
            (min(a, b), max(a, b), kind, correlation)
            for a, b in _pairs_across(rows[first_content], rows[second_content])
        ]
    first, second, kinds, correlations = zip(*pairs, strict=True) if pairs else ((), (), (), ())
    return Copies(
        np.array(first, np.int64),
        np.array(second, np.int64),
        np.array(kinds, "<U8"),
        np.array(correlations, np.float32),
    )


def _pairs_within(rows: Sequence[int]) -> list[tuple[int, int]]:
    if len(rows) > MAX_COPIES:
        return [(rows[0], row) for row in rows[1:]]
    return [(a, b) for index, a in enumerate(rows) for b in rows[index + 1 :]]


def _pairs_across(rows: Sequence[int], others: Sequence[int]) -> list[tuple[int, int]]:
    if len(rows) * len(others) > MAX_COPIES**2:
        return [(rows[0], other) for other in others]
    return [(a, b) for a in rows for b in others]


def grouped(n: int, pairs: Copies) -> list[list[int]]:
    """Connected components of n rows joined by `pairs`, without single rows: sorted, ordered by first row."""
    graph = coo_array((np.ones(len(pairs), bool), (pairs.first, pairs.second)), shape=(n, n))
    _, labels = connected_components(graph, directed=False)
    groups: dict[int, list[int]] = defaultdict(list)
    for row, label in enumerate(labels.tolist()):
        groups[label].append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def two_labels(items: AllItems, pairs: Copies) -> Copies:
    """The pairs whose labels are both known and differ."""
    a, b = items.targets[pairs.first], items.targets[pairs.second]
    return pairs.take((a != b) & (a != UNKNOWN) & (b != UNKNOWN))


def between_splits(items: AllItems, pairs: Copies) -> Copies:
    """The pairs whose items are in different splits."""
    return pairs.take(items.splits[pairs.first] != items.splits[pairs.second])
