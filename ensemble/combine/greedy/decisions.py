"""Metrics of the most probable class: only labels that a candidate can still change are looked at.

Let S be the sum of the members so far. A class of a row is alive if S and the highest that any member says of it
reach what S and the lowest that any member says of another class are sure of. A row with one living class has its
label whoever is added; the others are evaluated, on their living classes alone. Sums are float64, so that
labels are those of the float64 mean; ties go to the lower class index.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ensemble.combine.arrays import Wide
from ensemble.combine.greedy.counting import Labels, countings
from ensemble.combine.greedy.ragged import Mask, Ragged, ragged
from ensemble.metrics import Metric
from ensemble.predictions import Floats, Ints

COPY = 100_000_000
"""Bytes that a copy of the living cells may take; beyond it they are read where they are."""

BLOCK = 1 << 20
"""Numbers looked at together."""

SMALL = 15_000
"""Numbers that are sooner looked at than left out."""


class Decisions:
    """The judge by one of `countings`.

    Its cells are the living classes of the rows that some mean of members can decide in two ways.
    """

    def __init__(self, probs: Floats, targets: Ints, metric: Metric) -> None:
        self.probs, self.metric, self.targets = probs, metric, targets
        self.counting, self.k = countings[metric.name], probs.shape[2]
        self.actual = np.bincount(targets, minlength=self.k)
        low, high = probs.min(axis=0), probs.max(axis=0)
        alive = high >= low.max(axis=1, keepdims=True)
        several = np.count_nonzero(alive, axis=1) > 1
        self.settled = self._tally(np.argmax(alive[~several], axis=1), targets[~several])
        if self.counting.hits_only:
            several &= alive[np.arange(len(targets)), targets]
        rows = np.flatnonzero(several)
        self.cells = ragged(alive[rows])
        rows = rows[self.cells.order]
        self.row_targets, self.columns = targets[rows].astype(np.int32), self.cells.column.astype(np.int32)
        at = rows[self.cells.row] * self.k + self.cells.column
        self.low, self.high = low.ravel()[at], high.ravel()[at]
        self.values, self.at = _values(probs, at)

    def begin(self, candidates: Ints) -> Votes:
        return Votes(self, candidates)

    def score(self, tally: Ints) -> Wide:
        """The metric, from counts (j, q) of the rows with cells."""
        return self.counting.score(self.settled + tally, self.actual)

    def _tally(self, labels: Ints, targets: Ints) -> Ints:
        return self.counting.tally(labels[None].astype(np.int32), targets.astype(np.int32), self.k)


class Votes:
    """The running sum of a judge's cells."""

    def __init__(self, judge: Decisions, candidates: Ints) -> None:
        self.judge, self.candidates = judge, candidates
        self.sums = np.zeros(len(judge.at))

    def add(self, member: int) -> None:
        self.sums += self.judge.values[member].take(self.judge.at, mode="clip")

    def score(self) -> float:
        judge = self.judge
        labels = _winners(self.sums[None], judge.cells, judge.columns)
        return float(judge.score(judge.counting.tally(labels, judge.row_targets, judge.k))[0])

    def scores(self) -> Wide:
        judge = self.judge
        fixed, cells, inner = self._undecided()
        targets, columns = judge.row_targets[judge.cells.row[cells[: len(inner.order)]]], judge.columns[cells]
        tallies = [
            judge.counting.tally(_winners(sums, inner, columns), targets, judge.k)
            for sums in self._with_each(cells)
        ]
        return judge.score(fixed + np.concatenate(tallies))

    def _undecided(self) -> tuple[Ints, Ints, Ragged]:
        """The counts of the rows that no candidate changes; the cells of the others, and how they lie together."""
        judge = self.judge
        if len(judge.at) * len(self.candidates) <= SMALL:
            return np.zeros_like(judge.settled), np.arange(len(judge.at)), judge.cells
        alive, living, label = self._living()
        sure = living == 1
        fixed = judge.counting.tally(label[None, sure], judge.row_targets[sure], judge.k)
        return fixed, *_narrowed(judge.cells, alive, np.flatnonzero(living > 1))

    def _living(self) -> tuple[Mask, Labels, Labels]:
        """Which cells are alive; for each row how many are, and the last of them."""
        judge = self.judge
        floors, tops = self.sums + judge.low, self.sums + judge.high
        rows = len(judge.row_targets)
        floor, living, label = np.full(rows, -np.inf), np.zeros(rows, np.int32), np.zeros(rows, np.int32)
        for size, layer in judge.cells.layers():
            np.maximum(floor[:size], floors[layer], out=floor[:size])
        alive = np.empty(len(tops), bool)
        for size, layer in judge.cells.layers():
            np.greater_equal(tops[layer], floor[:size], out=alive[layer])
            living[:size] += alive[layer]
            np.copyto(label[:size], judge.columns[layer], where=alive[layer])
        return alive, living, label

    def _with_each(self, cells: Ints) -> Iterator[Wide]:
        """The sums of `cells` after adding each candidate, float64 (j, cells), some candidates at a time."""
        values, at, sums = self.judge.values, self.judge.at[cells], self.sums[cells]
        step = max(1, BLOCK // max(1, len(cells)))
        for start in range(0, len(self.candidates), step):
            members = self.candidates[start : start + step].tolist()
            yield np.stack([values[member].take(at, mode="clip") for member in members]) + sums


def _values(probs: Floats, at: Ints) -> tuple[Floats, Ints]:
    """Rows of numbers of each member, and where in them those at `at` are: in a copy, where that is small."""
    m, size = len(probs), probs.itemsize * len(probs) * len(at)
    if size > COPY and probs.flags.c_contiguous:
        return probs.reshape(m, -1), at
    copy = np.empty((m, len(at)), probs.dtype)
    for member, row in zip(probs, copy, strict=True):
        member.reshape(-1).take(at, out=row, mode="clip")
    return copy, np.arange(len(at))


def _narrowed(cells: Ragged, alive: Mask, rows: Ints) -> tuple[Ints, Ragged]:
    """The indices of the cells of `rows` that are alive, and how they lie together."""
    mask, at = np.zeros((len(rows), len(cells.sizes)), bool), np.zeros((len(rows), len(cells.sizes)), np.intp)
    for column, (size, layer) in enumerate(cells.layers()):
        reach = np.searchsorted(rows, size)
        at[:reach, column] = layer.start + rows[:reach]
        mask[:reach, column] = alive[at[:reach, column]]
    inner = ragged(mask)
    return at[inner.order[inner.row], inner.column], inner


def _winners(sums: Wide, cells: Ragged, columns: Labels) -> Labels:
    """The column of the largest of each row's cells, int32 (j, rows): sums (j, cells); ties to the lower."""
    rows = len(cells.order)
    best, label = np.full((len(sums), rows), -np.inf), np.zeros((len(sums), rows), np.int32)
    for size, layer in cells.layers():
        better = sums[:, layer] > best[:, :size]
        np.maximum(best[:, :size], sums[:, layer], out=best[:, :size])
        np.copyto(label[:, :size], columns[layer], where=better)
    return label
