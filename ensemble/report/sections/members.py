"""Members section: the members of an ensemble, their weights, and their agreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemble.combine.advice import error_correlations, error_covariances
from ensemble.combine.record import Ensemble, MemberRow
from ensemble.combine.report import Part, Report, plain, read_report
from ensemble.combine.rules import rules
from ensemble.core.errors import abbreviated
from ensemble.report.classes import Labelled
from ensemble.report.sections.scope import Subject


@dataclass(frozen=True)
class Cell:
    """A table cell. shade: background intensity in [0, 1].  mark: whether to highlight it."""

    text: str
    shade: float = 0.0
    mark: bool = False


@dataclass(frozen=True)
class ShadedTable:
    """A heat map as a table. corner: header of the column with the row names.  rows: (name, cells)."""

    caption: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def rescaled(value: float, low: float, high: float) -> float:
    """`value` mapped linearly from [low, high] to [0, 1] and clipped; 0.5 if low == high."""
    return 0.5 if high <= low else min(1.0, max(0.0, (value - low) / (high - low)))


def shaded_from_zero(values: Sequence[Sequence[float | None]]) -> list[tuple[Cell, ...]]:
    """A cell per number, shaded from 0 to the maximum, so that similar numbers look similar; empty for None."""
    high = max((value for row in values for value in row if value is not None), default=1.0)

    def cell(value: float | None) -> Cell:
        return Cell("") if value is None else Cell(f"{value:.3f}", rescaled(value, 0.0, high))

    return [tuple(map(cell, row)) for row in values]


MOST = 24
"""Limit of the members in the two agreement tables."""


@dataclass(frozen=True)
class Agreement:
    """Pairwise agreement. disagreement: share of rows with different labels.  errors: correlation of the errors.

    all_right, none_right: rows that all members, or none of them, predict correctly, of `n`.
    shown: members in the tables.  total: members in all.
    """

    disagreement: ShadedTable
    errors: ShadedTable
    all_right: int
    none_right: int
    n: int
    shown: int
    total: int


def agreement(names: Sequence[str], members: Sequence[Labelled]) -> Agreement | None:
    """The agreement of the members with these names; None for fewer than two members."""
    if len(members) < 2:
        return None
    predictions = np.stack([member.predicted for member in members])
    hits = (predictions == members[0].targets).sum(axis=0)
    predictions, names, shown = predictions[:MOST], list(names)[:MOST], members[:MOST]
    disagreement = (predictions[:, None] != predictions[None]).mean(axis=2)
    correlations = error_correlations(
        error_covariances(np.stack([member.probs for member in shown]), shown[0].targets)
    )
    return Agreement(
        _table(
            "How often two members give a row another label, in shares of the rows", names, disagreement.tolist()
        ),
        _table("How alike the errors of two members are: their correlation", names, correlations.tolist()),
        int((hits == len(members)).sum()),
        int((hits == 0).sum()),
        len(members[0].targets),
        len(shown),
        len(members),
    )


def _table(caption: str, names: Sequence[str], values: list[list[float]]) -> ShadedTable:
    """A members-by-members table, diagonal empty; columns are headed by numbers to stay narrow."""
    off_diagonal = [[None if x == y else value for x, value in enumerate(row)] for y, row in enumerate(values)]
    columns = tuple(str(number) for number in range(1, len(names) + 1))
    rows = [f"{number} {name}" for number, name in enumerate(names, 1)]
    return ShadedTable(caption, "member", columns, tuple(zip(rows, shaded_from_zero(off_diagonal), strict=True)))


@dataclass(frozen=True)
class Member:
    """A row of the members' table. part: its contribution; None if `ens combine` recorded none.

    refit: id of the run that predicts in its place; empty if it predicts itself.
    """

    row: MemberRow
    part: Part | None
    refit: str

    def facts(self) -> dict[str, Any]:
        """Plain values for JSON."""
        part = {} if self.part is None else plain(self.part)
        keys = ("gain", "low", "high", "disagreement", "only_right", "seconds_per_image")
        return {
            **{key: getattr(self.row, key) for key in ("id", "arch", "accuracy", "weight", "why")},
            **{key: part.get(key) for key in keys},
            "refit": self.refit,
        }


@dataclass(frozen=True)
class Parts:
    """The members of an ensemble, and what its report says of them.

    shares: weights per member and class (m, k); empty unless the rule has them.
    """

    ensemble: Ensemble
    report: Report | None
    members: tuple[Member, ...]
    shares: tuple[tuple[float, ...], ...]

    @property
    def weighted(self) -> bool:
        """Whether the rule has one weight per member."""
        return any(member.row.weight is not None for member in self.members)

    @property
    def gains(self) -> bool:
        """Whether the gain of any member is known."""
        return any(member.part is not None and member.part.gain is not None for member in self.members)

    @property
    def against(self) -> list[str]:
        """Sentences that compare the ensemble with the best member and the unweighted mean."""
        return [] if self.report is None else [comparison.sentence for comparison in self.report.against]

    @property
    def advice(self) -> list[str]:
        """Sentences on members to drop and the architecture to train next."""
        if self.report is None:
            return []
        sentences, shorter = [], self.report.shorter
        if shorter is not None:
            sentence = f"{shorter.sentence[:1].upper()}{shorter.sentence[1:]}"
            sentences.append(f"{sentence}: {abbreviated(self.report.dropped)}")
        return [*sentences, *([self.report.advice.sentence] if self.report.advice.sentence else [])]


def parts(subject: Subject) -> Parts | None:
    """The parts of the ensemble in focus; None for another kind of run. Raises DataError for a broken record."""
    ensemble = subject.ensemble
    if ensemble is None:
        return None
    report = read_report(subject.focus)
    contributions = {} if report is None else {part.id: part for part in report.parts}
    shares = rules.get(ensemble.rule).shares(ensemble.params)
    return Parts(
        ensemble,
        report,
        tuple(
            Member(row, contributions.get(row.id), source if source != row.id else "")
            for row, source in zip(ensemble.kept, ensemble.sources, strict=True)
        ),
        tuple(map(tuple, shares.tolist())) if shares.ndim == 2 else (),
    )
