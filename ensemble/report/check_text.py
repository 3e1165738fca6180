"""Results of `ens check` as text and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ensemble.check.checking import Check
from ensemble.check.copies import KINDS, Copies
from ensemble.check.items import AllItems
from ensemble.core.errors import abbreviated, first_few
from ensemble.core.table import Cell, Table
from ensemble.data.image_problems import ADVICE, LOW_LIMIT
from ensemble.data.leaks import described


def pairs_csv(items: AllItems, copies: Copies) -> str:
    """CSV with split, id, other_split, other_id, kind, correlation of every pair of copies."""
    header = ("split", "id", "other_split", "other_id", "kind", "correlation")
    columns = (
        items.splits[copies.first].tolist(),
        items.ids[copies.first].tolist(),
        items.splits[copies.second].tolist(),
        items.ids[copies.second].tolist(),
        copies.kind.tolist(),
        [f"{value:.4f}" for value in copies.correlation.tolist()],
    )
    return Table(header, list(zip(*columns, strict=True))).csv()


def groups_csv(items: AllItems, groups: Sequence[Sequence[int]]) -> str:
    """CSV with split, id, group of every item that belongs to a group of copies."""
    rows = [
        (str(items.splits[row]), str(items.ids[row]), f"copies-{number}")
        for number, group in enumerate(groups)
        for row in group
    ]
    return Table(("split", "id", "group"), rows).csv()


FEW = 5
"""Limit of the names listed per kind of problem."""
CLASSES = 12
"""Limit of the classes in the table; of more, only the largest and the smallest are listed."""


def check_text(check: Check) -> str:
    """Plain text with a few lines per section."""
    sections = [_counts(check), _files(check), _copies(check), _labels(check), _verdict(check)]
    return "\n\n".join(section for section in sections if section) + "\n"


def verdict(check: Check) -> list[str]:
    """Problems that need action, most severe first; empty without any."""
    problems = []
    if check.leaks:
        problems.append(f"in train too (of tests: in train or valid): {described(check.leaks, check.dataset)}")
    if len(check.conflicts):
        problems.append(f"{_count(len(check.conflicts), 'pair of copies has', 'pairs of copies have')} two labels")
    if check.unreadable:
        problems.append(f"{_count(len(check.unreadable), 'file', 'files')} cannot be read")
    if check.label_issues:
        problems.append(
            f"{_count(len(check.label_issues), 'label is', 'labels are')} likely wrong"
            f" (asked {check.label_source}, accuracy {check.label_run_accuracy:.4f})"
        )
    if check.low_bits:
        count = _count(check.low_bits, "16-bit file has", "16-bit files have")
        problems.append(f"{count} no value above {LOW_LIMIT - 1}, which {ADVICE}")
    if check.odd:
        problems.append(f"{_count(len(check.odd), 'file is', 'files are')} odd")
    if missing := check.counts.read_as_missing:
        problems.append(f"pandas, and most scorers, read as missing labels: {first_few(missing)}; rename them")
    if check.counts.few:
        problems.append(f"few training images of {_names(check.counts.few)}")
    return problems


def _count(n: int, singular: str, plural: str) -> str:
    return f"{n} {singular if n == 1 else plural}"


def _names(names: Sequence[str]) -> str:
    return abbreviated(names, FEW)


def _counts(check: Check) -> str:
    counts = check.counts
    rows: list[list[Any]] = [
        [name, *(counts.by_split[split][index] for split in counts.by_split)]
        for index, name in enumerate(counts.classes)
    ]
    if len(rows) > CLASSES:
        rows.sort(key=lambda row: -row[1])
        half = CLASSES // 2
        rows = [*rows[:half], [f"({len(rows) - 2 * half} more)", *[None] * len(counts.by_split)], *rows[-half:]]
    if counts.unlabelled:
        rows.append(["(no label)", *(counts.unlabelled.get(split, 0) for split in counts.by_split)])
    sums = [len(items) for items in check.dataset.splits.values()]
    lines = [Table(("class", *counts.by_split), [*rows, ["all", *sums]]).text()]
    lines.append(f"largest class through smallest in train: {counts.imbalance:.1f}")
    shift = counts.largest_shift()
    if shift and abs(shift[2]) >= 0.05:
        lines.append(f"{shift[1]} has {100 * shift[2]:+.0f} points of {shift[0]} against train")
    return "\n".join(lines)


def _files(check: Check) -> str:
    formats = ", ".join(f"{count} {name}" for name, count in check.formats.items())
    least, median, most = check.shorter
    common = ", ".join(f"{count} of {size}" for size, count in check.sizes[:3])
    lines = [f"files: {formats}" + (f"; {check.grey} without colour" if check.grey else "")]
    lines.append(f"shorter side: {least} to {most} pixels, median {median}; the most: {common}")
    for path, reason in list(check.unreadable.items())[:FEW]:
        lines.append(f"unreadable: {path} {reason}")
    for row, reason in list(check.odd.items())[:FEW]:
        lines.append(f"odd: {check.items.name(row)}: {reason}")
    for kind, count in (("unreadable", len(check.unreadable)), ("odd", len(check.odd))):
        if count > FEW:
            lines.append(f"{kind}: {count - FEW} more")
    return "\n".join([*lines, *check.notes])


def _copies(check: Check) -> str:
    pairs_by_kind = check.pairs_by_kind()
    lines = []
    if pairs_by_kind:
        rows: list[list[Cell]] = [
            [splits, *(counts[kind] for kind in KINDS)] for splits, counts in pairs_by_kind.items()
        ]
        lines.append(Table(("pairs of copies", *KINDS), rows).text())
        largest = max(len(rows) for rows in check.groups)
        images = sum(len(rows) for rows in check.groups)
        lines.append(f"{images} images in {len(check.groups)} groups, the largest of {largest}")
    else:
        lines.append("no copies found")
    if check.too_small:
        lines.append(f"{check.too_small} images are too small for near duplicates to be told; bytes were compared")
    for a, b, names in check.shared_groups:
        lines.append(f"groups in both {a} and {b}: {len(names)} ({_names(names)})")
    for pair in range(min(FEW, len(check.conflicts))):
        sides = [
            f"{check.items.name(row)} {check.counts.classes[check.items.targets[row]]}"
            for row in (int(check.conflicts.first[pair]), int(check.conflicts.second[pair]))
        ]
        lines.append(f"two labels: {', '.join(sides)} ({check.conflicts.kind[pair]})")
    return "\n".join(lines)


def _labels(check: Check) -> str:
    if not check.label_issues:
        return (
            f"labels: {check.label_source}"
            if check.labels_unchecked
            else f"labels: {check.label_source} finds none that is wrong"
        )
    lines = [
        f"label: {issue.id} is {issue.given} ({issue.confidence:.2f}),"
        f" likely {issue.likely} ({issue.likely_confidence:.2f})"
        for issue in check.label_issues[:FEW]
    ]
    rest = len(check.label_issues) - FEW
    return "\n".join([*lines, *([f"label: {rest} more"] if rest > 0 else [])])


def _verdict(check: Check) -> str:
    problems = verdict(check)
    return "\n".join(f"! {line}" for line in problems) if problems else "nothing to do"
