"""Members section: the members of an ensemble, their weights, and their agreement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemble.combine.advice import error_correlations, error_covariances
from ensemble.combine.record import Ensemble
from ensemble.combine.rules import rules
from ensemble.core.errors import DataError, abbreviated, one_line
from ensemble.core.files import read_json
from ensemble.recipe import text
from ensemble.report.classes import Labelled
from ensemble.report.sections.scope import Subject
from ensemble.runs.run import Run


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
    """A row of the members' table. Numbers are those recorded by `ens combine`; None if it recorded none."""

    id: str
    arch: str
    accuracy: float | None
    weight: float | None
    why: str
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    disagreement: float | None = None
    only_right: int | None = None
    seconds_per_image: float | None = None
    refit: str = ""


@dataclass(frozen=True)
class Parts:
    """Contents of an ensemble's ensemble.yaml and report.json. requested_rule: `auto`, or the same as `rule`.

    shares: weights per member and class (m, k); empty unless the rule has them.  tournament: (rule, score, standard
    error).  against: sentences comparing it with the best member and the unweighted mean.  advice: sentences on
    members to drop and the architecture to train next.
    """

    rule: str
    requested_rule: str
    metric: str
    threshold: float
    temperature: float | None
    members: tuple[Member, ...]
    left_out: tuple[Member, ...]
    shares: tuple[tuple[float, ...], ...] = ()
    tournament: tuple[tuple[str, float, float], ...] = ()
    against: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def weighted(self) -> bool:
        """Whether the rule has one weight per member."""
        return any(member.weight is not None for member in self.members)

    @property
    def gains(self) -> bool:
        """Whether the gain of any member is known."""
        return any(member.gain is not None for member in self.members)


def parts(subject: Subject) -> Parts | None:
    """The parts of the ensemble in focus; None for another kind of run. Raises DataError for a broken record."""
    if subject.ensemble is None:
        return None
    report = stored_report(subject.focus)
    try:
        return _parts(subject.focus, subject.ensemble, report)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f"{subject.focus.id}/report.json is not as `ens combine` writes it ({one_line(error)}); combine again"
        ) from error


def _parts(run: Run, record: Ensemble, report: Mapping[str, Any]) -> Parts:
    value: Any = text.read(run.path / "ensemble.yaml")
    contributions = {part["id"]: part for part in report.get("parts", [])}
    shares = rules.get(record.rule).shares(record.params)
    return Parts(
        record.rule,
        str(value.get("asked", record.rule)),
        record.metric,
        record.threshold,
        record.temperature,
        tuple(_member(entry, contributions.get(entry["id"], {})) for entry in value["members"]),
        tuple(_member(entry, {}) for entry in value.get("left_out") or []),
        tuple(map(tuple, shares.tolist())) if shares.ndim == 2 else (),
        tuple((entry["rule"], entry["score"], entry["error"]) for entry in report.get("tournament", [])),
        tuple(str(entry["sentence"]) for entry in report.get("against", [])),
        tuple(_advice(report)),
    )


def stored_report(run: Run) -> Mapping[str, Any]:
    """An ensemble's report.json; empty if missing, as in older ensembles. Raises DataError for a broken file."""
    path = run.path / "report.json"
    report = read_json(path) if path.is_file() else {}
    if not isinstance(report, dict):
        raise DataError(f"{path} is not as `ens combine` writes it; combine again")
    return report


def _member(entry: Mapping[str, Any], contribution: Mapping[str, Any]) -> Member:
    return Member(
        str(entry["id"]),
        str(entry.get("arch", "")),
        entry.get("accuracy"),
        entry.get("weight"),
        str(entry.get("why", "")),
        **{key: contribution.get(key) for key in _CONTRIBUTION_KEYS},
        refit=str(entry.get("refit", "")),
    )


_CONTRIBUTION_KEYS = ("gain", "low", "high", "disagreement", "only_right", "seconds_per_image")


def _advice(report: Mapping[str, Any]) -> list[str]:
    sentences, shorter = [], report.get("shorter")
    if shorter:
        dropped, sentence = report.get("dropped") or shorter.get("dropped", []), str(shorter["sentence"])
        sentences.append(f"{sentence[:1].upper()}{sentence[1:]}: {abbreviated(dropped)}")
    advice = report.get("advice") or {}
    return [*sentences, *([str(advice["sentence"])] if advice.get("sentence") else [])]
