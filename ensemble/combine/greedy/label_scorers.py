"""Scorers for metrics of the most probable class, which count only labels that a candidate can still change.

Let S be the sum of the members so far. A class of a row is alive if S plus the highest probability of the class in
any member is at least the largest S plus lowest probability of any class. A row with one alive class has the same
label whichever member is added; only the others are evaluated, on their alive classes. Sums are float64, so that
labels are those of the float64 mean; ties go to the lower class index.

Alive classes are stored in layers, the j-th alive class of every row: a loop over layers is few operations on long
arrays, a loop over rows would be many on short ones.
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
    """The True cells of a mask (rows, columns), at least one per row, as a ragged array, the longest rows first.

    order: the mask's row of each ragged row, (rows,).  sizes: for each layer the number of rows, always the first
    ones, with a cell in it.  row, column: ragged row and mask column of each cell, (cells,), layer by layer;
    columns ascend along a row.
    """

    order: Ints
    sizes: tuple[int, ...]
    row: Ints
    column: Ints

    def layers(self) -> Iterator[tuple[int, slice]]:
        """For each layer the number of its rows and the slice of its cells."""
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
    """A metric as a function of counts. tally: labels (j, r), targets (r,), k -> counts (j, q), additive over rows.

    score: counts (j, q), rows of each class (k,) -> float64 (j,).
    hits_only: whether all wrong labels of a row are equivalent.
    """

    tally: Callable[[Labels, Labels, int], Ints]
    score: Callable[[Ints, Ints], Wide]
    hits_only: bool


def _hits(labels: Labels, targets: Labels, k: int) -> Ints:
    hits: Ints = np.count_nonzero(labels == targets, axis=1)[:, None]
    return hits


def _hits_by_class(labels: Labels, targets: Labels, k: int) -> Ints:
    correct = labels == targets
    keys = np.broadcast_to(targets, labels.shape)[correct]
    keys = keys + np.repeat(k * np.arange(len(labels)), np.count_nonzero(correct, axis=1))
    return np.bincount(keys, minlength=len(labels) * k).reshape(-1, k)


def _hits_and_predicted(labels: Labels, targets: Labels, k: int) -> Ints:
    keys = labels + k * np.arange(len(labels))[:, None]
    predicted = np.bincount(keys.ravel(), minlength=len(labels) * k).reshape(-1, k)
    return np.concatenate((_hits_by_class(labels, targets, k), predicted), axis=1)


def _accuracy(hits: Ints, actual: Ints) -> Wide:
    return hits[:, 0] / np.float64(actual.sum())


def _balanced_accuracy(hits: Ints, actual: Ints) -> Wide:
    present = actual > 0
    mean: Wide = np.mean(hits[:, present] / actual[present], axis=1)
    return mean


def _macro_f1(counts: Ints, actual: Ints) -> Wide:
    hits, predicted = np.split(counts, 2, axis=1)
    present = actual > 0
    mean: Wide = np.mean(2 * hits[:, present] / (actual + predicted)[:, present], axis=1)
    return mean


def _kappa(counts: Ints, actual: Ints) -> Wide:
    hits, predicted = np.split(counts, 2, axis=1)
    n, chance = int(actual.sum()), predicted @ actual
    # if the expected agreement is 1, so is the observed one: 0 over 1
    kappas: Wide = (n * hits.sum(axis=1) - chance) / np.maximum(n**2 - chance, 1)
    return kappas


label_counts = {
    "accuracy": LabelCounts(_hits, _accuracy, hits_only=True),
    "balanced_accuracy": LabelCounts(_hits_by_class, _balanced_accuracy, hits_only=True),
    "macro_f1": LabelCounts(_hits_and_predicted, _macro_f1, hits_only=False),
    "kappa": LabelCounts(_hits_and_predicted, _kappa, hits_only=False),
}


COPY = 100_000_000
"""Maximum size in bytes of a copy of the alive cells; larger ones are read from the original array."""

BLOCK = 1 << 20
"""Number of values processed together."""

SMALL = 15_000
"""Number of values below which all cells are evaluated, which is faster than finding the alive ones."""


class LabelScorer:
    """The scorer of a metric of `label_counts`.

    Its cells are the alive classes of the rows whose label depends on which members are averaged.
    """

    def __init__(self, probs: Floats, targets: Ints, metric: Metric) -> None:
        self.probs, self.metric, self.targets = probs, metric, targets
        self.counts, self.k = label_counts[metric.name], probs.shape[2]
        self.actual = np.bincount(targets, minlength=self.k)
        low, high = probs.min(axis=0), probs.max(axis=0)
        alive = high >= low.max(axis=1, keepdims=True)
        undecided = np.count_nonzero(alive, axis=1) > 1
        self.settled = self._tally(np.argmax(alive[~undecided], axis=1), targets[~undecided])
        if self.counts.hits_only:
            undecided &= alive[np.arange(len(targets)), targets]
        rows = np.flatnonzero(undecided)
        self.cells = ragged(alive[rows])
        rows = rows[self.cells.order]
        self.row_targets, self.columns = targets[rows].astype(np.int32), self.cells.column.astype(np.int32)
        flat = rows[self.cells.row] * self.k + self.cells.column
        self.low, self.high = low.ravel()[flat], high.ravel()[flat]
        self.values, self.positions = _values(probs, flat)

    def begin(self, candidates: Ints) -> LabelSum:
        return LabelSum(self, candidates)

    def score(self, tally: Ints) -> Wide:
        """The metric, from counts (j, q) of the rows with cells."""
        return self.counts.score(self.settled + tally, self.actual)

    def _tally(self, labels: Ints, targets: Ints) -> Ints:
        return self.counts.tally(labels[None].astype(np.int32), targets.astype(np.int32), self.k)


class LabelSum:
    """The running sum of the cells of a scorer."""

    def __init__(self, scorer: LabelScorer, candidates: Ints) -> None:
        self.scorer, self.candidates = scorer, candidates
        self.sums = np.zeros(len(scorer.positions))

    def add(self, member: int) -> None:
        self.sums += self.scorer.values[member].take(self.scorer.positions, mode="clip")

    def score(self) -> float:
        scorer = self.scorer
        labels = _argmax(self.sums[None], scorer.cells, scorer.columns)
        return float(scorer.score(scorer.counts.tally(labels, scorer.row_targets, scorer.k))[0])

    def scores(self) -> Wide:
        scorer = self.scorer
        fixed, cells, inner = self._undecided()
        targets, columns = scorer.row_targets[scorer.cells.row[cells[: len(inner.order)]]], scorer.columns[cells]
        tallies = [
            scorer.counts.tally(_argmax(sums, inner, columns), targets, scorer.k) for sums in self._with_each(cells)
        ]
        return scorer.score(fixed + np.concatenate(tallies))

    def _undecided(self) -> tuple[Ints, Ints, Ragged]:
        """Counts of the rows that no candidate changes; cells of the other rows, and their Ragged structure."""
        scorer = self.scorer
        if len(scorer.positions) * len(self.candidates) <= SMALL:
            return np.zeros_like(scorer.settled), np.arange(len(scorer.positions)), scorer.cells
        alive, n_alive, label = self._alive()
        decided = n_alive == 1
        fixed = scorer.counts.tally(label[None, decided], scorer.row_targets[decided], scorer.k)
        return fixed, *_narrowed(scorer.cells, alive, np.flatnonzero(n_alive > 1))

    def _alive(self) -> tuple[Mask, Labels, Labels]:
        """Whether each cell is alive; for each row the number of alive cells, and the column of the last."""
        scorer = self.scorer
        floors, tops = self.sums + scorer.low, self.sums + scorer.high
        rows = len(scorer.row_targets)
        floor, n_alive, label = np.full(rows, -np.inf), np.zeros(rows, np.int32), np.zeros(rows, np.int32)
        for size, layer in scorer.cells.layers():
            np.maximum(floor[:size], floors[layer], out=floor[:size])
        alive = np.empty(len(tops), bool)
        for size, layer in scorer.cells.layers():
            np.greater_equal(tops[layer], floor[:size], out=alive[layer])
            n_alive[:size] += alive[layer]
            np.copyto(label[:size], scorer.columns[layer], where=alive[layer])
        return alive, n_alive, label

    def _with_each(self, cells: Ints) -> Iterator[Wide]:
        """The sums of `cells` after adding each candidate, float64 (j, cells), in blocks of candidates."""
        values, positions, sums = self.scorer.values, self.scorer.positions[cells], self.sums[cells]
        step = max(1, BLOCK // max(1, len(cells)))
        for start in range(0, len(self.candidates), step):
            members = self.candidates[start : start + step].tolist()
            yield np.stack([values[member].take(positions, mode="clip") for member in members]) + sums


def _values(probs: Floats, flat: Ints) -> tuple[Floats, Ints]:
    """The values of each member, and the positions of `flat` in them; the values are a copy if that is small."""
    m, size = len(probs), probs.itemsize * len(probs) * len(flat)
    if size > COPY and probs.flags.c_contiguous:
        return probs.reshape(m, -1), flat
    copy = np.empty((m, len(flat)), probs.dtype)
    for member, row in zip(probs, copy, strict=True):
        member.reshape(-1).take(flat, out=row, mode="clip")
    return copy, np.arange(len(flat))


def _narrowed(cells: Ragged, alive: Mask, rows: Ints) -> tuple[Ints, Ragged]:
    """The indices of the alive cells of `rows`, and their Ragged structure."""
    mask, cell_index = (
        np.zeros((len(rows), len(cells.sizes)), bool),
        np.zeros((len(rows), len(cells.sizes)), np.intp),
    )
    for column, (size, layer) in enumerate(cells.layers()):
        count = np.searchsorted(rows, size)
        cell_index[:count, column] = layer.start + rows[:count]
        mask[:count, column] = alive[cell_index[:count, column]]
    inner = ragged(mask)
    return cell_index[inner.order[inner.row], inner.column], inner


def _argmax(sums: Wide, cells: Ragged, columns: Labels) -> Labels:
    """The column of the largest of each row's cells, int32 (j, rows): sums (j, cells); ties to the lower."""
    rows = len(cells.order)
    best, label = np.full((len(sums), rows), -np.inf), np.zeros((len(sums), rows), np.int32)
    for size, layer in cells.layers():
        better = sums[:, layer] > best[:, :size]
        np.maximum(best[:, :size], sums[:, layer], out=best[:, :size])
        np.copyto(label[:, :size], columns[layer], where=better)
    return label
