"""HTML page with the results of `ens check`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ensemble.check.checking import Check
from ensemble.check.copies import KINDS, Copies, between_splits
from ensemble.check.items import Counts
from ensemble.core import __version__
from ensemble.core.predictions import Ints
from ensemble.report.check_text import verdict
from ensemble.report.html import data_uri, rendered

SAMPLES = 24
"""Sample pictures of all classes together; at most `EACH` of one class."""
EACH = 4
UNREADABLE = 100
"""Limit of the listed unreadable files."""
SHIFT = 0.05
"""Smallest reported difference of a class's share between train and another split."""


def check_page(check: Check, pictures: int) -> str:
    """The HTML, with at most `pictures` images per section."""
    counts, shift = check.counts, check.counts.largest_shift()
    crossing = between_splits(check.items, check.copies)
    inside = _others(check.copies, crossing)
    return rendered(
        "check.html",
        {
            "name": check.name,
            "version": __version__,
            "total": len(check.items),
            "fingerprint": check.dataset.fingerprint,
            "verdict": verdict(check),
            "counts": counts,
            "classes": _classes(check),
            "imbalance": f"{counts.imbalance:.1f}",
            "shift": shift if shift and abs(shift[2]) >= SHIFT else None,
            "shift_points": f"{100 * abs(shift[2]):.0f}" if shift else "",
            "samples": _samples(check, pictures),
            "formats": check.formats,
            "sizes": check.sizes,
            "shorter": check.shorter,
            "grey": check.grey,
            "notes": check.notes,
            "unreadable": check.unreadable,
            "unreadable_shown": list(check.unreadable.items())[:UNREADABLE],
            "odd": [_single(check, row, reason) for row, reason in list(check.odd.items())[:pictures]],
            "odd_total": len(check.odd),
            "kinds": KINDS,
            "places": check.pairs_by_kind(),
            "groups": check.groups,
            "grouped_images": sum(map(len, check.groups)),
            "largest": max(map(len, check.groups), default=0),
            "too_small": check.too_small,
            "shared_groups": check.shared_groups,
            "conflicts": _pairs(check, check.conflicts, pictures),
            "conflicts_total": len(check.conflicts),
            "between": _pairs(check, crossing, pictures),
            "between_total": len(crossing),
            "within": _pairs(check, inside, pictures),
            "within_total": len(inside),
            "issues": _issues(check, pictures),
            "issues_total": len(check.label_issues),
            "asked": check.label_source,
            "asked_kind": check.label_run_kind,
            "asked_accuracy": f"{check.label_run_accuracy:.4f}",
        },
    )


def _classes(check: Check) -> list[dict[str, Any]]:
    """Rows of the table of counts by class and split."""
    counts: Counts = check.counts
    train = counts.by_split["train"]
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "counts": [counts.by_split[split][index] for split in counts.by_split],
            "share": round(100 * train[index] / max(train), 1),
            "percent": round(100 * train[index] / sum(train), 1),
        }
        for index, name in enumerate(counts.classes)
    ]
    if counts.unlabelled:
        unlabelled = [counts.unlabelled.get(split, 0) for split in counts.by_split]
        rows.append({"name": "(no label)", "counts": unlabelled, "share": None, "percent": None})
    sums = [len(items) for items in check.dataset.splits.values()]
    return [*rows, {"name": "all", "counts": sums, "share": None, "percent": None}]


def _samples(check: Check, pictures: int) -> list[dict[str, str]]:
    """A few training images of each class, evenly spaced over the split."""
    k = len(check.counts.classes)
    each = min(EACH, max(1, SAMPLES // k))
    items = check.items
    train = np.flatnonzero(items.splits == "train")
    rows: list[int] = []
    for target in range(min(k, SAMPLES)):
        class_rows = train[items.targets[train] == target]
        rows += class_rows[np.linspace(0, len(class_rows) - 1, min(each, len(class_rows))).astype(int)].tolist()
    return [_single(check, row, _label(check, row)) for row in rows[:SAMPLES]] if pictures else []


def _others(all_pairs: Copies, crossing: Copies) -> Copies:
    known = set(zip(crossing.first.tolist(), crossing.second.tolist(), strict=True))
    pairs = zip(all_pairs.first.tolist(), all_pairs.second.tolist(), strict=True)
    return all_pairs.take(np.array([pair not in known for pair in pairs], bool))


def _pairs(check: Check, pairs: Copies, limit: int) -> list[dict[str, Any]]:
    shown = pairs.take(spread_out(len(pairs), limit))
    return [
        {
            "sides": [{**_single(check, row, ""), "label": _label(check, row)} for row in (first, second)],
            "kind": kind,
            "correlation": "" if kind == "exact" else f"{correlation:.3f}",
        }
        for first, second, kind, correlation in shown.each()
    ]


def spread_out(n: int, limit: int) -> Ints:
    """At most `limit` indices below n, evenly spaced, first and last included; int64."""
    return (
        np.unique(np.linspace(0, n - 1, min(n, limit)).round().astype(np.int64))
        if n and limit
        else np.zeros(0, int)
    )


def _issues(check: Check, limit: int) -> Sequence[dict[str, str]]:
    row_of = {
        str(name): row
        for row, (split, name) in enumerate(zip(check.items.splits, check.items.ids, strict=True))
        if split in ("train", "valid")
    }
    return [
        _single(
            check,
            row_of[issue.id],
            f"is {issue.given} ({issue.confidence:.2f}), likely {issue.likely} ({issue.likely_confidence:.2f})",
        )
        for issue in check.label_issues[:limit]
        if issue.id in row_of
    ]


def _label(check: Check, row: int) -> str:
    target = int(check.items.targets[row])
    return check.counts.classes[target] if target >= 0 else "no label"


def _single(check: Check, row: int, caption: str) -> dict[str, str]:
    image = check.dataset.open_image(str(check.items.paths[row]))
    return {"name": check.items.name(row), "says": caption, "picture": data_uri(image)}
