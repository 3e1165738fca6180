"""Pairs of items that are copies, exact or near, and the groups that they make."""

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

MOST_OF_ONE = 100
"""Copies of one image of which every pair is listed; of more, each is paired with the first."""


@dataclass(frozen=True)
class Copies:
    """q pairs of items.

    first, second: int64 (q,), rows of AllItems, first < second.  kind: str (q,), one of `KINDS`.
    correlation: float32 (q,), of luminance once the two lie over each other; 1 where the files are the same.
    """

    first: Ints
    second: Ints
    kind: Texts
    correlation: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.first)

    def each(self) -> Iterator[tuple[int, int, str, float]]:
        """(first, second, kind, correlation) of each pair."""
        columns = (self.first, self.second, self.kind, self.correlation)
        return zip(*(column.tolist() for column in columns), strict=True)

    def take(self, rows: npt.ArrayLike) -> Copies:
        """The pairs at `rows`: indices or a mask."""
        rows = np.asarray(rows)
        return Copies(self.first[rows], self.second[rows], self.kind[rows], self.correlation[rows])


def copies(items: AllItems, near: NearPairs) -> Copies:
    """All pairs: exact ones by content first, then what `near` says of the contents, the likest first.

    near: its pairs are numbers of contents.
    """
    rows: dict[int, list[int]] = defaultdict(list)
    for row, content in enumerate(items.content.tolist()):
        rows[content].append(row)
    found = [(a, b, EXACT, 1.0) for same in rows.values() for a, b in _pairs_within(same)]
    for one, other, mirrored, correlation in zip(
        near.first.tolist(), near.second.tolist(), near.mirrored.tolist(), near.correlation.tolist(), strict=True
    ):
        kind = MIRRORED if mirrored else NEAR
        found += [(min(a, b), max(a, b), kind, correlation) for a, b in _pairs_across(rows[one], rows[other])]
    first, second, kinds, correlations = zip(*found, strict=True) if found else ((), (), (), ())
    return Copies(
        np.array(first, np.int64),
        np.array(second, np.int64),
        np.array(kinds, "<U8"),
        np.array(correlations, np.float32),
    )


def _pairs_within(rows: Sequence[int]) -> list[tuple[int, int]]:
    if len(rows) > MOST_OF_ONE:
        return [(rows[0], row) for row in rows[1:]]
    return [(a, b) for place, a in enumerate(rows) for b in rows[place + 1 :]]


def _pairs_across(rows: Sequence[int], others: Sequence[int]) -> list[tuple[int, int]]:
    if len(rows) * len(others) > MOST_OF_ONE**2:
        return [(rows[0], other) for other in others]
    return [(a, b) for a in rows for b in others]


def grouped(n: int, found: Copies) -> list[list[int]]:
    """Rows that copies join, directly or through others: each group sorted, the groups by their first row."""
    graph = coo_array((np.ones(len(found), bool), (found.first, found.second)), shape=(n, n))
    _, labels = connected_components(graph, directed=False)
    groups: dict[int, list[int]] = defaultdict(list)
    for row, label in enumerate(labels.tolist()):
        groups[label].append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def two_labels(items: AllItems, found: Copies) -> Copies:
    """The pairs whose two labels are known and differ."""
    a, b = items.targets[found.first], items.targets[found.second]
    return found.take((a != b) & (a != UNKNOWN) & (b != UNKNOWN))


def between_splits(items: AllItems, found: Copies) -> Copies:
    """The pairs that lie in two splits."""
    return found.take(items.splits[found.first] != items.splits[found.second])
