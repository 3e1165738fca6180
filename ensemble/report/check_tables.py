"""The copies that `ens check` found, as CSV."""

from __future__ import annotations

from collections.abc import Sequence

from ensemble.check.copies import Copies
from ensemble.check.items import AllItems
from ensemble.report.tables import as_csv


def pairs_csv(items: AllItems, found: Copies) -> str:
    """split, id, other_split, other_id, kind, correlation of every pair."""
    header = ("split", "id", "other_split", "other_id", "kind", "correlation")
    columns = (
        items.splits[found.first].tolist(),
        items.ids[found.first].tolist(),
        items.splits[found.second].tolist(),
        items.ids[found.second].tolist(),
        found.kind.tolist(),
        [f"{value:.4f}" for value in found.correlation.tolist()],
    )
    return as_csv(header, list(zip(*columns, strict=True)))


def groups_csv(items: AllItems, groups: Sequence[Sequence[int]]) -> str:
    """split, id, group of every item that is in a group of copies."""
    rows = [
        (str(items.splits[row]), str(items.ids[row]), f"copies-{number}")
        for number, group in enumerate(groups)
        for row in group
    ]
    return as_csv(("split", "id", "group"), rows)
