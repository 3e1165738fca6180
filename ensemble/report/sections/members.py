"""The members of an ensemble, their weights, and how much they agree."""

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
    """text: what stands there.  shade: 0 to 1.  mark: whether it is pointed out."""

    text: str
    shade: float = 0.0
    mark: bool = False


@dataclass(frozen=True)
class Shaded:
    """A heat map as a table. corner: what the rows and the columns are."""

    caption: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def between(value: float, low: float, high: float) -> float:
    """Where `value` lies from `low`, 0, to `high`, 1; the middle where these are one."""
    return 0.5 if high <= low else min(1.0, max(0.0, (value - low) / (high - low)))


def from_nothing(values: Sequence[Sequence[float | None]]) -> list[tuple[Cell, ...]]:
    """A cell for each number, shaded from 0 to the largest, so that near numbers look near; empty for None."""
    high = max((value for row in values for value in row if value is not None), default=1.0)

    def cell(value: float | None) -> Cell:
        return Cell("") if value is None else Cell(f"{value:.3f}", between(value, 0.0, high))

    return [tuple(map(cell, row)) for row in values]


MOST = 24
"""Members that the two tables have room for."""


@dataclass(frozen=True)
class Agreement:
    """differs: the share of rows with another label.  errors: the correlation of errors.  of: members in all.

    all_right, none_right: rows that all members, or none of them, get right; of `n`.
    """

    differs: Shaded
    errors: Shaded
    all_right: int
    none_right: int
    n: int
    shown: int
    of: int


def agreement(names: Sequence[str], members: Sequence[Labelled]) -> Agreement | None:
    """None for fewer than two members."""
    if len(members) < 2:
        return None
    said = np.stack([one.predicted for one in members])
    hits = (said == members[0].targets).sum(axis=0)
    said, names, shown = said[:MOST], list(names)[:MOST], members[:MOST]
    differs = (said[:, None] != said[None]).mean(axis=2)
    alike = error_correlations(error_covariances(np.stack([one.probs for one in shown]), shown[0].targets))
    return Agreement(
        _table("How often two members give a row another label, in shares of the rows", names, differs.tolist()),
        _table("How alike the errors of two members are: their correlation", names, alike.tolist()),
        int((hits == len(members)).sum()),
        int((hits == 0).sum()),
        len(members[0].targets),
        len(shown),
        len(members),
    )


def _table(caption: str, names: Sequence[str], values: list[list[float]]) -> Shaded:
    """Members by members, numbered so that the columns stay narrow; a member beside itself says nothing."""
    apart = [[None if x == y else value for x, value in enumerate(row)] for y, row in enumerate(values)]
    columns = tuple(str(number) for number in range(1, len(names) + 1))
    rows = [f"{number} {name}" for number, name in enumerate(names, 1)]
    return Shaded(caption, "member", columns, tuple(zip(rows, from_nothing(apart), strict=True)))


@dataclass(frozen=True)
class Member:
    """A line of the members' table. Numbers as `ens combine` gave them; None where it gave none."""

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
    """An ensemble's record. asked: `auto` where that chose the rule, else the rule itself.

    shares: what each member weighs for each class (m, k), where that differs.  tournament: (rule, score, error).
    against: how it compares with the best member and the plain mean.  advice: who can go, what to train next.
    """

    rule: str
    asked: str
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
        """Whether the rule has a weight for each member."""
        return any(one.weight is not None for one in self.members)

    @property
    def gains(self) -> bool:
        """Whether anything is known of what a member brings."""
        return any(one.gain is not None for one in self.members)


def parts(subject: Subject) -> Parts | None:
    """None for a run that is no ensemble. Raises DataError for a broken record."""
    if subject.ensemble is None:
        return None
    told = stored_report(subject.focus)
    try:
        return _parts(subject.focus, subject.ensemble, told)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f"{subject.focus.id}/report.json is not as `ens combine` writes it ({one_line(error)}); combine again"
        ) from error


def _parts(run: Run, record: Ensemble, told: Mapping[str, Any]) -> Parts:
    value: Any = text.read(run.path / "ensemble.yaml")
    brought = {part["id"]: part for part in told.get("parts", [])}
    shares = rules.get(record.rule).shares(record.params)
    return Parts(
        record.rule,
        str(value.get("asked", record.rule)),
        record.metric,
        record.threshold,
        record.temperature,
        tuple(_member(entry, brought.get(entry["id"], {})) for entry in value["members"]),
        tuple(_member(entry, {}) for entry in value.get("left_out") or []),
        tuple(map(tuple, shares.tolist())) if shares.ndim == 2 else (),
        tuple((one["rule"], one["score"], one["error"]) for one in told.get("tournament", [])),
        tuple(str(one["sentence"]) for one in told.get("against", [])),
        tuple(_advice(told)),
    )


def stored_report(run: Run) -> Mapping[str, Any]:
    """An ensemble's report.json; empty for one that was made before there was one. Raises DataError."""
    path = run.path / "report.json"
    found = read_json(path) if path.is_file() else {}
    if not isinstance(found, dict):
        raise DataError(f"{path} is not as `ens combine` writes it; combine again")
    return found


def _member(entry: Mapping[str, Any], brought: Mapping[str, Any]) -> Member:
    return Member(
        str(entry["id"]),
        str(entry.get("arch", "")),
        entry.get("accuracy"),
        entry.get("weight"),
        str(entry.get("why", "")),
        **{key: brought.get(key) for key in _BROUGHT},
        refit=str(entry.get("refit", "")),
    )


_BROUGHT = ("gain", "low", "high", "disagreement", "only_right", "seconds_per_image")


def _advice(told: Mapping[str, Any]) -> list[str]:
    said, shorter = [], told.get("shorter")
    if shorter:
        who, sentence = told.get("dropped") or shorter.get("dropped", []), str(shorter["sentence"])
        said.append(f"{sentence[:1].upper()}{sentence[1:]}: {abbreviated(who)}")
    advice = told.get("advice") or {}
    return [*said, *([str(advice["sentence"])] if advice.get("sentence") else [])]
