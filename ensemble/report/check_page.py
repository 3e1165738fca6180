"""What `ens check` found, as one HTML page with pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ensemble.check.checking import Check
from ensemble.check.copies import KINDS, Copies, between_splits
from ensemble.check.items import Counts
from ensemble.core.predictions import Ints
from ensemble.core.version import __version__
from ensemble.report.check_text import verdict
from ensemble.report.html import data_uri, rendered

SAMPLES = 24
"""Pictures of classes in all, and so many of one at most: `EACH`."""
EACH = 4
UNREADABLE = 100
"""Names of unreadable files on the page."""
SHIFT = 0.05
"""Difference of a class's shares from which it is said."""


def check_page(found: Check, pictures: int) -> str:
    """The page, with at most `pictures` of each sort."""
    counts, shift = found.counts, found.counts.largest_shift()
    crossing = between_splits(found.items, found.copies)
    inside = _others(found.copies, crossing)
    return rendered(
        "check.html",
        {
            "name": found.name,
            "version": __version__,
            "total": len(found.items),
            "fingerprint": found.dataset.fingerprint,
            "verdict": verdict(found),
            "counts": counts,
            "classes": _classes(found),
            "imbalance": f"{counts.imbalance:.1f}",
            "shift": shift if shift and abs(shift[2]) >= SHIFT else None,
            "shift_points": f"{100 * abs(shift[2]):.0f}" if shift else "",
            "samples": _samples(found, pictures),
            "formats": found.formats,
            "sizes": found.sizes,
            "shorter": found.shorter,
            "grey": found.grey,
            "notes": found.notes,
            "unreadable": found.unreadable,
            "unreadable_shown": list(found.unreadable.items())[:UNREADABLE],
            "odd": [_single(found, row, why) for row, why in list(found.odd.items())[:pictures]],
            "odd_total": len(found.odd),
            "kinds": KINDS,
            "places": found.pairs_by_kind(),
            "groups": found.groups,
            "grouped_images": sum(map(len, found.groups)),
            "largest": max(map(len, found.groups), default=0),
            "too_small": found.too_small,
            "shared_groups": found.shared_groups,
            "conflicts": _pairs(found, found.conflicts, pictures),
            "conflicts_total": len(found.conflicts),
            "between": _pairs(found, crossing, pictures),
            "between_total": len(crossing),
            "within": _pairs(found, inside, pictures),
            "within_total": len(inside),
            "issues": _issues(found, pictures),
            "issues_total": len(found.label_issues),
            "asked": found.asked,
            "asked_kind": found.asked_kind,
            "asked_accuracy": f"{found.asked_accuracy:.4f}",
        },
    )


def _classes(found: Check) -> list[dict[str, Any]]:
    """The rows of the table of counts."""
    counts: Counts = found.counts
    train = counts.by_split["train"]
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "counts": [counts.by_split[split][at] for split in counts.by_split],
            "share": round(100 * train[at] / max(train), 1),
            "percent": round(100 * train[at] / sum(train), 1),
        }
        for at, name in enumerate(counts.classes)
    ]
    if counts.unlabelled:
        bare = [counts.unlabelled.get(split, 0) for split in counts.by_split]
        rows.append({"name": "(no label)", "counts": bare, "share": None, "percent": None})
    sums = [len(items) for items in found.dataset.splits.values()]
    return [*rows, {"name": "all", "counts": sums, "share": None, "percent": None}]


def _samples(found: Check, pictures: int) -> list[dict[str, str]]:
    """A few training images of each class, from all over the split."""
    k = len(found.counts.classes)
    each = min(EACH, max(1, SAMPLES // k))
    items = found.items
    train = np.flatnonzero(items.splits == "train")
    rows: list[int] = []
    for target in range(min(k, SAMPLES)):
        own = train[items.targets[train] == target]
        rows += own[np.linspace(0, len(own) - 1, min(each, len(own))).astype(int)].tolist()
    return [_single(found, row, _label(found, row)) for row in rows[:SAMPLES]] if pictures else []


def _others(all_pairs: Copies, crossing: Copies) -> Copies:
    known = set(zip(crossing.first.tolist(), crossing.second.tolist(), strict=True))
    pairs = zip(all_pairs.first.tolist(), all_pairs.second.tolist(), strict=True)
    return all_pairs.take(np.array([pair not in known for pair in pairs], bool))


def _pairs(found: Check, pairs: Copies, limit: int) -> list[dict[str, Any]]:
    shown = pairs.take(spread_out(len(pairs), limit))
    return [
        {
            "sides": [{**_single(found, row, ""), "label": _label(found, row)} for row in (first, second)],
            "kind": kind,
            "correlation": "" if kind == "exact" else f"{correlation:.3f}",
        }
        for first, second, kind, correlation in shown.each()
    ]


def spread_out(n: int, limit: int) -> Ints:
    """At most `limit` of n places, evenly from the first to the last."""
    return (
        np.unique(np.linspace(0, n - 1, min(n, limit)).round().astype(np.int64))
        if n and limit
        else np.zeros(0, int)
    )


def _issues(found: Check, limit: int) -> Sequence[dict[str, str]]:
    places = {
        str(name): row
        for row, (split, name) in enumerate(zip(found.items.splits, found.items.ids, strict=True))
        if split in ("train", "valid")
    }
    return [
        _single(
            found,
            places[issue.id],
            f"is {issue.given} ({issue.confidence:.2f}), likely {issue.likely} ({issue.likely_confidence:.2f})",
        )
        for issue in found.label_issues[:limit]
        if issue.id in places
    ]


def _label(found: Check, row: int) -> str:
    target = int(found.items.targets[row])
    return found.counts.classes[target] if target >= 0 else "no label"


def _single(found: Check, row: int, says: str) -> dict[str, str]:
    image = found.dataset.open_image(str(found.items.paths[row]))
    return {"name": found.items.name(row), "says": says, "picture": data_uri(image)}
