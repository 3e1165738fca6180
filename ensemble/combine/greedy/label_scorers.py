"""Scorers for metrics of the most probable class, from counts of the labels that a candidate can still change.

A loop over these layers is a few operations on long arrays, where a loop over rows is many on short ones.

Let S be the sum of the members so far. A class of a row is alive if S and the highest that any member says of it
reach what S and the lowest that any member says of another class are sure of. A row with one living class has its
label whoever is added; the others are evaluated, on their living classes alone. Sums are float64, so that
labels are those of the float64 mean; ties go to the lower class index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ensemble.core.predictions import Floats, Ints, Wide
from ensemble.metrics import Metric

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


Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class LabelCounts:
    """tally: labels (j, r), targets (r,), k -> counts (j, q), which add up over rows.

    score: counts (j, q), rows of each class (k,) -> float64 (j,).
    hits_only: whether one wrong label is as good as another.
    """

    tally: Callable[[Labels, Labels, int], Ints]
    score: Callable[[Ints, Ints], Wide]
    hits_only: bool


def _right(labels: Labels, targets: Labels, k: int) -> Ints:
    hits: Ints = np.count_nonzero(labels == targets, axis=1)[:, None]
    return hits


def _right_of_each(labels: Labels, targets: Labels, k: int) -> Ints:
    right = labels == targets
    keys = np.broadcast_to(targets, labels.shape)[right]
    keys = keys + np.repeat(k * np.arange(len(labels)), np.count_nonzero(right, axis=1))
    return np.bincount(keys, minlength=len(labels) * k).reshape(-1, k)


def _right_and_claimed(labels: Labels, targets: Labels, k: int) -> Ints:
    keys = labels + k * np.arange(len(labels))[:, None]
    claimed = np.bincount(keys.ravel(), minlength=len(labels) * k).reshape(-1, k)
    return np.concatenate((_right_of_each(labels, targets, k), claimed), axis=1)


def _accuracy(hits: Ints, actual: Ints) -> Wide:
    return hits[:, 0] / np.float64(actual.sum())


def _balanced_accuracy(hits: Ints, actual: Ints) -> Wide:
    there = actual > 0
    mean: Wide = np.mean(hits[:, there] / actual[there], axis=1)
    return mean


def _macro_f1(counts: Ints, actual: Ints) -> Wide:
    hits, claimed = np.split(counts, 2, axis=1)
    there = actual > 0
    mean: Wide = np.mean(2 * hits[:, there] / (actual + claimed)[:, there], axis=1)
    return mean


def _kappa(counts: Ints, actual: Ints) -> Wide:
    hits, claimed = np.split(counts, 2, axis=1)
    n, chance = int(actual.sum()), claimed @ actual
    # where chance is sure to agree, all rows do: 0 over 1
    above: Wide = (n * hits.sum(axis=1) - chance) / np.maximum(n**2 - chance, 1)
    return above


countings = {
    "accuracy": LabelCounts(_right, _accuracy, hits_only=True),
    "balanced_accuracy": LabelCounts(_right_of_each, _balanced_accuracy, hits_only=True),
    "macro_f1": LabelCounts(_right_and_claimed, _macro_f1, hits_only=False),
    "kappa": LabelCounts(_right_and_claimed, _kappa, hits_only=False),
}


COPY = 100_000_000
"""Bytes that a copy of the living cells may take; beyond it they are read where they are."""

BLOCK = 1 << 20
"""Numbers looked at together."""

SMALL = 15_000
"""Numbers that are sooner looked at than left out."""


class LabelScorer:
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

    def begin(self, candidates: Ints) -> LabelSum:
        return LabelSum(self, candidates)

    def score(self, tally: Ints) -> Wide:
        """The metric, from counts (j, q) of the rows with cells."""
        return self.counting.score(self.settled + tally, self.actual)

    def _tally(self, labels: Ints, targets: Ints) -> Ints:
        return self.counting.tally(labels[None].astype(np.int32), targets.astype(np.int32), self.k)


class LabelSum:
    """The running sum of a judge's cells."""

    def __init__(self, judge: LabelScorer, candidates: Ints) -> None:
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
