"""Data section: image counts, and the stored results of `ens check`."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble.check.copies import KINDS as COPIES
from ensemble.core.errors import DataError
from ensemble.core.files import read_json
from ensemble.data.leaks import KINDS, Leaks, check_folder
from ensemble.report.sections.scope import parents
from ensemble.runs.run import Run

_WORDS = {"exact": "the same", "near": "nearly the same", "group": "of the same group"}


@dataclass(frozen=True)
class Data:
    """splits: their names.  counts: (class, images per split), then images without a label, then the totals.

    checked: whether results of `ens check` exist.  findings: its counts, as lines.  pairs: (splits, pairs of copies
    per kind).  leaks: a line per split with leaks.
    """

    fingerprint: str
    splits: tuple[str, ...]
    counts: tuple[tuple[str, tuple[int, ...]], ...]
    imbalance: float | None
    checked: bool
    findings: tuple[str, ...]
    pairs: tuple[tuple[str, tuple[int, ...]], ...]
    leaks: tuple[str, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The columns of `pairs`."""
        return COPIES


def copies_across_folds(run: Run) -> int:
    """Number of pairs of copies in check.json whose two rows are in different folds of a folds run."""
    folds = [parent for parent in parents(run) if parent.is_fold and parent.has("valid")]
    fold_of = {name: fold.id for fold in folds for name in fold.predictions("valid").ids.tolist()}
    pairs = _check(check_folder(run.path.parent, run.fingerprint) / "check.json").get("pairs") or []
    pooled = [(a, b) for first, a, second, b, *_ in pairs if {first, second} <= {"train", "valid"}]
    return sum(a in fold_of and b in fold_of and fold_of[a] != fold_of[b] for a, b in pooled)


def data(folder: Path, fingerprint: str, classes: Sequence[str], leaks: Leaks) -> Data:
    """The data set with this fingerprint. leaks: those recorded by its runs."""
    stored = check_folder(folder, fingerprint)
    check = _check(stored / "check.json") if fingerprint else {}
    counts = _counts(stored / "items.csv", classes) if fingerprint else {}
    splits = tuple(counts)
    lines = [(name, tuple(counts[split][name] for split in splits)) for name in classes]
    unlabelled = tuple(counts[split][""] for split in splits)
    if any(unlabelled):
        lines.append(("(no label)", unlabelled))
    if splits:
        lines.append(("all", tuple(sum(counts[split].values()) for split in splits)))
    pairs = check.get("pairs_by_kind") or {}
    return Data(
        fingerprint,
        splits,
        tuple(lines),
        _imbalance([counts["train"][name] for name in classes] if "train" in counts else []),
        bool(check),
        tuple(_findings(check)),
        tuple((place, tuple(by_kind.get(kind, 0) for kind in COPIES)) for place, by_kind in pairs.items()),
        tuple(leak_lines(leaks)),
    )


def _imbalance(train: Sequence[int]) -> float | None:
    """Ratio of the largest to the smallest class; None without counts or with an empty class."""
    return max(train) / min(train) if train and min(train) else None


def leak_lines(leaks: Leaks) -> list[str]:
    """A line per split with leaks: `valid: 4 images the same, 2 images nearly the same as in train`."""
    return [
        f"{split}: {', '.join(_copied(counts[kind], kind) for kind in KINDS if counts.get(kind))}"
        f" as in {'train' if split == 'valid' else 'train or valid'}"
        for split, counts in leaks.items()
        if any(counts.values())
    ]


def _copied(count: int, kind: str) -> str:
    return f"{count} {'image' if count == 1 else 'images'} {_WORDS[kind]}"


def _check(path: Path) -> Mapping[str, Any]:
    try:
        value = read_json(path) if path.is_file() else {}
    except DataError:
        return {}
    return value if isinstance(value, dict) else {}


def _counts(path: Path, classes: Sequence[str]) -> dict[str, Counter[str]]:
    """split -> label -> number of images, from items.csv; empty if the file does not exist."""
    if not path.is_file():
        return {}
    counts: dict[str, Counter[str]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            label = row["label"] if row["label"] in classes else ""
            counts.setdefault(row["split"], Counter())[label] += 1
    return counts


def _findings(check: Mapping[str, Any]) -> list[str]:
    """A line per kind of finding with its count, zeros included; empty without a check."""
    if not check:
        return []
    groups = check.get("groups") or []
    kinds = [
        ("files that cannot be read", len(check.get("unreadable") or {})),
        ("odd files (long and thin, tiny, of one colour, misnamed)", len(check.get("odd") or {})),
        ("groups of copies", len(groups)),
        ("pairs of copies with two labels", len(check.get("two_labels") or [])),
        ("pairs of splits that share groups", len(check.get("shared_groups") or [])),
    ]
    lines = [f"{kind}: {count}" for kind, count in kinds]
    issues, run_or_reason = len(check.get("label_issues") or []), str(check.get("labels_judged_by") or "")
    if run_or_reason.startswith("not judged"):
        return [*lines, f"labels: {run_or_reason}"]
    return [*lines, f"labels that are likely wrong: {issues} ({run_or_reason})"]
