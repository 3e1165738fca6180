"""Results of `ens check` as text and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ensemble.check.checking import Check
from ensemble.check.copies import KINDS, Copies
from ensemble.check.items import AllItems
from ensemble.core.errors import abbreviated, first_few
from ensemble.core.table import as_csv
from ensemble.data.image_problems import ADVICE, LOW
from ensemble.data.leaks import described


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


FEW = 5
"""Names of one sort that a screen has room for."""
CLASSES = 12
"""Classes that the table lists; of more, the largest and the smallest."""


def check_text(found: Check) -> str:
    """A few lines for every part."""
    parts = [_counts(found), _files(found), _copies(found), _labels(found), _verdict(found)]
    return "\n\n".join(part for part in parts if part) + "\n"


def verdict(found: Check) -> list[str]:
    """What to do something about, the gravest first; nothing where all is well."""
    said = []
    if found.leaks:
        said.append(f"in train too (of tests: in train or valid): {described(found.leaks, found.dataset)}")
    if len(found.conflicts):
        said.append(f"{_count(len(found.conflicts), 'pair of copies has', 'pairs of copies have')} two labels")
    if found.unreadable:
        said.append(f"{_count(len(found.unreadable), 'file', 'files')} cannot be read")
    if found.label_issues:
        said.append(
            f"{_count(len(found.label_issues), 'label is', 'labels are')} likely wrong"
            f" (asked {found.asked}, accuracy {found.asked_accuracy:.4f})"
        )
    if found.low_bits:
        count = _count(found.low_bits, "16-bit file has", "16-bit files have")
        said.append(f"{count} no value above {LOW - 1}, which {ADVICE}")
    if found.odd:
        said.append(f"{_count(len(found.odd), 'file is', 'files are')} odd")
    if missing := found.counts.read_as_missing:
        said.append(f"pandas, and most scorers, read as missing labels: {first_few(missing)}; rename them")
    if found.counts.few:
        said.append(f"few training images of {_names(found.counts.few)}")
    return said


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"


def _names(names: Sequence[str]) -> str:
    return abbreviated(names, FEW)


def _counts(found: Check) -> str:
    counts = found.counts
    rows: list[list[Any]] = [
        [name, *(counts.by_split[split][at] for split in counts.by_split)] for at, name in enumerate(counts.classes)
    ]
    if len(rows) > CLASSES:
        rows.sort(key=lambda row: -row[1])
        half = CLASSES // 2
        rows = [*rows[:half], [f"({len(rows) - 2 * half} more)", *[""] * len(counts.by_split)], *rows[-half:]]
    if counts.unlabelled:
        rows.append(["(no label)", *(counts.unlabelled.get(split, 0) for split in counts.by_split)])
    sums = [len(items) for items in found.dataset.splits.values()]
    lines = [aligned([["class", *counts.by_split], *rows, ["all", *sums]])]
    lines.append(f"largest class through smallest in train: {counts.imbalance:.1f}")
    shift = counts.largest_shift()
    if shift and abs(shift[2]) >= 0.05:
        lines.append(f"{shift[1]} has {100 * shift[2]:+.0f} points of {shift[0]} against train")
    return "\n".join(lines)


def aligned(rows: Sequence[Sequence[object]]) -> str:
    """Columns in line, the first to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[at]) for row in cells) for at in range(len(cells[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if not at else cell.rjust(width) for at, (cell, width) in enumerate(pairs)
        ).rstrip()
        for pairs in (list(zip(row, widths, strict=True)) for row in cells)
    )


def _files(found: Check) -> str:
    formats = ", ".join(f"{count} {name}" for name, count in found.formats.items())
    least, median, most = found.shorter
    common = ", ".join(f"{count} of {size}" for size, count in found.sizes[:3])
    lines = [f"files: {formats}" + (f"; {found.grey} without colour" if found.grey else "")]
    lines.append(f"shorter side: {least} to {most} pixels, median {median}; the most: {common}")
    for path, why in list(found.unreadable.items())[:FEW]:
        lines.append(f"unreadable: {path} {why}")
    for row, why in list(found.odd.items())[:FEW]:
        lines.append(f"odd: {found.items.name(row)}: {why}")
    for what, count in (("unreadable", len(found.unreadable)), ("odd", len(found.odd))):
        if count > FEW:
            lines.append(f"{what}: {count - FEW} more")
    return "\n".join([*lines, *found.notes])


def _copies(found: Check) -> str:
    places = found.pairs_by_kind()
    lines = []
    if places:
        rows = [[place, *(kinds[kind] for kind in KINDS)] for place, kinds in places.items()]
        lines.append(aligned([["pairs of copies", *KINDS], *rows]))
        largest = max(len(rows) for rows in found.groups)
        images = sum(len(rows) for rows in found.groups)
        lines.append(f"{images} images in {len(found.groups)} groups, the largest of {largest}")
    else:
        lines.append("no copies found")
    if found.too_small:
        lines.append(f"{found.too_small} images are too small for near duplicates to be told; bytes were compared")
    for a, b, names in found.shared_groups:
        lines.append(f"groups in both {a} and {b}: {len(names)} ({_names(names)})")
    for at in range(min(FEW, len(found.conflicts))):
        sides = [
            f"{found.items.name(row)} {found.counts.classes[found.items.targets[row]]}"
            for row in (int(found.conflicts.first[at]), int(found.conflicts.second[at]))
        ]
        lines.append(f"two labels: {', '.join(sides)} ({found.conflicts.kind[at]})")
    return "\n".join(lines)


def _labels(found: Check) -> str:
    if not found.label_issues:
        return (
            f"labels: {found.asked}" if found.why_not_asked else f"labels: {found.asked} finds none that is wrong"
        )
    lines = [
        f"label: {issue.id} is {issue.given} ({issue.confidence:.2f}),"
        f" likely {issue.likely} ({issue.likely_confidence:.2f})"
        for issue in found.label_issues[:FEW]
    ]
    rest = len(found.label_issues) - FEW
    return "\n".join([*lines, *([f"label: {rest} more"] if rest > 0 else [])])


def _verdict(found: Check) -> str:
    said = verdict(found)
    return "\n".join(f"! {line}" for line in said) if said else "nothing to do"
