"""Groups from a file of their own, such as the near duplicates that `ens check --groups` finds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ensemble.data.csvfile import read_csv
from ensemble.data.dataset import Items
from ensemble.errors import DataError, first_few, one_line

LABELLED = ("train", "valid")


def read_groups(path: Path) -> dict[tuple[str, str], str]:
    """(split, id) -> group, from a CSV with these three columns. Raises DataError."""
    if not path.is_file():
        raise DataError(
            f"{one_line(path)}: no such file; data.groups names a CSV that `ens check --groups` wrote, and"
            f" data.group_column: {one_line(path.name)} a column of the table"
        )
    table = read_csv(path)
    columns = [table.column(name, "groups") for name in ("split", "id", "group")]
    found: dict[tuple[str, str], str] = {}
    for split, name, group in zip(*columns, strict=True):
        if found.setdefault((split, name), group) != group:
            raise DataError(f"{path}: {split} {name!r} is in two groups, {found[split, name]!r} and {group!r}")
    return found


def grouped(splits: Mapping[str, Items], groups: Mapping[tuple[str, str], str]) -> dict[str, Items]:
    """`splits` with the groups of a file for train and valid; an item that it does not name is its own group.

    The file may have been made where a part of train was held out as valid: an id of either is looked up in both.
    Raises DataError where it names no item at all, and for items that have groups already.
    """
    by_id: dict[str, set[str]] = {}
    for (split, name), group in groups.items():
        if split in LABELLED:
            by_id.setdefault(name, set()).add(group)
    made, named = dict(splits), 0
    for split in LABELLED:
        if split not in splits:
            continue
        items = splits[split]
        if items.groups is not None:
            raise DataError("the items have groups by data.group_column; leave out that or data.groups")
        own = []
        for name in items.ids.tolist():
            other = by_id.get(name, set())
            known = groups.get((split, name)) or (next(iter(other)) if len(other) == 1 else None)
            named += known is not None
            own.append(known or f"alone:{name}")
        made[split] = Items(items.ids, items.paths, items.targets, np.array(own, np.str_), items.soft)
    if groups and not named:
        raise DataError(
            f"data.groups names {first_few(name for _, name in groups)}, none of which is an id of train or valid"
        )
    return made
