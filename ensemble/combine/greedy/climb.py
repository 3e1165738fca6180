"""One run: sorted initialisation, then the member that helps most, again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ensemble.combine.arrays import Wide
from ensemble.predictions import Ints

TIE = 1e-12
"""Scores this near to each other are the same score: sums differ by as much with the order of their terms."""


class Total(Protocol):
    """A running sum of members. Scores are turned so that more is better; nan where the rows decide nothing."""

    def add(self, member: int) -> None:
        """Count `member` once more."""

    def score(self) -> float:
        """The score of the mean as it is."""

    def scores(self) -> Wide:
        """The score of the mean after adding each candidate in turn, float64 (candidates,)."""


class Judge(Protocol):
    """What is computed once for a metric and shared by all runs."""

    def begin(self, candidates: Ints) -> Total:
        """The empty sum, to which any of `candidates` may be added."""


def climb(judge: Judge, candidates: Ints, rounds: int) -> Ints:
    """Members in the order in which they are added, the best prefix of the whole sequence.

    candidates: the members of this run, best first; among equals an earlier one is taken. Starts from the best
    prefix of `candidates`, and from the first of them alone, since no member of a long prefix is ever removed.
    """
    gains = _prefixes(judge, candidates[:rounds])
    starts = dict.fromkeys((earliest_best(gains) + 1, 1))
    climbs = [_climb_from(judge, candidates, gains[:start], rounds) for start in starts]
    return climbs[earliest_best([score for score, _ in climbs])][1]


def _climb_from(judge: Judge, candidates: Ints, gains: list[float], rounds: int) -> tuple[float, Ints]:
    """The best score and its sequence, from the prefix of `candidates` that has these scores on."""
    kept = len(gains)
    sequence, scores = candidates[:kept].tolist(), list(gains)
    total = judge.begin(candidates)
    for member in sequence:
        total.add(member)
    inside = np.arange(len(candidates)) < kept
    for _ in range(rounds):
        tried = comparable(total.scores())
        best = pick(tried, inside)
        inside[best] = True
        total.add(int(candidates[best]))
        sequence.append(int(candidates[best]))
        scores.append(float(tried[best]))
    best = earliest_best(scores)
    return scores[best], np.array(sequence[: best + 1])


def _prefixes(judge: Judge, first: Ints) -> list[float]:
    total, scores = judge.begin(first), []
    for member in first.tolist():
        total.add(member)
        scores.append(total.score())
    return [float(score) for score in comparable(np.array(scores))]


def comparable(scores: Wide) -> Wide:
    """The same scores with the worst of all in place of nan."""
    return np.where(np.isnan(scores), -np.inf, scores)


def pick(scores: Wide, inside: npt.NDArray[np.bool_]) -> int:
    """The best candidate; among equals one that is already in, then the earlier one."""
    tied = scores >= scores.max() - TIE
    return int(np.argmax(tied & inside if (tied & inside).any() else tied))


def earliest_best(scores: Sequence[float] | Wide) -> int:
    """The first place whose score is within TIE of the best."""
    best = max(scores) - TIE
    return next(i for i, score in enumerate(scores) if score >= best)
