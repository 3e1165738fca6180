"""How much the members agree: on labels, and in their errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ensemble.combine.advice import error_correlations, error_covariances
from ensemble.report.classes import Labelled
from ensemble.report.sections.shaded import Shaded, from_nothing

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
