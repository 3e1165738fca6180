"""What a data set is, in 64 hex digits: a function of content and meaning, not of places or order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ensemble.data.dataset import Items
from ensemble.files import sha256_json
from ensemble.predictions import Texts


def fingerprint(splits: Mapping[str, Items], classes: Texts, content: Mapping[str, str]) -> str:
    """Hex sha256 of train and valid: split, id, label, group, content of every row, and the class order.

    content: path -> sha256 of what is there.
    """
    rows = [
        [split, *row]
        for split in ("train", "valid")
        if split in splits
        for row in _rows(splits[split], classes, content)
    ]
    return sha256_json({"classes": classes.tolist(), "rows": sorted(rows, key=_place)})


def fingerprint_of_test(items: Items, classes: Texts, content: Mapping[str, str]) -> str:
    """Hex sha256 of one test set: id, label and content of every row."""
    rows = [[row[0], row[1], row[3]] for row in _rows(items, classes, content)]
    return sha256_json(sorted(rows, key=lambda row: row[0]))


def _place(row: list[Any]) -> tuple[str, str]:
    return row[0], row[1]


def _rows(items: Items, classes: Texts, content: Mapping[str, str]) -> list[list[Any]]:
    """[id, label or its probabilities, group, content] of every item."""
    labels: list[Any]
    if items.soft is not None:
        labels = items.soft.tolist()
    else:
        names = [*classes.tolist(), None]
        labels = [names[target] for target in items.targets.tolist()]  # UNKNOWN is -1, the last
    groups = items.groups.tolist() if items.groups is not None else [None] * len(items)
    digests = [content[path] for path in items.paths.tolist()]
    return [list(row) for row in zip(items.ids.tolist(), labels, groups, digests, strict=True)]
