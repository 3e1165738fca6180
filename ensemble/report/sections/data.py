"""What is known of the images: counts, and whatever `ens check` left behind."""

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
    """splits: their names.  counts: (class, images of each split), then those without a label, then all.

    checked: whether `ens check` has looked at it.  found: what it found, a line each.  pairs: copies by place and
    kind.  leaks: a line for each split that leaks.
    """

    fingerprint: str
    splits: tuple[str, ...]
    counts: tuple[tuple[str, tuple[int, ...]], ...]
    imbalance: float | None
    checked: bool
    found: tuple[str, ...]
    pairs: tuple[tuple[str, tuple[int, ...]], ...]
    leaks: tuple[str, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The columns of `pairs`."""
        return COPIES


def copies_across_folds(run: Run) -> int:
    """Pairs of copies that `ens check` found and that lie in two folds of a folds run, 0 where none is known."""
    folds = [one for one in parents(run) if one.is_fold and one.has("valid")]
    fold_of = {name: fold.id for fold in folds for name in fold.predictions("valid").ids.tolist()}
    pairs = _check(check_folder(run.path.parent, run.fingerprint) / "check.json").get("pairs") or []
    pooled = [(a, b) for first, a, second, b, *_ in pairs if {first, second} <= {"train", "valid"}]
    return sum(a in fold_of and b in fold_of and fold_of[a] != fold_of[b] for a, b in pooled)


def data(folder: Path, fingerprint: str, classes: Sequence[str], leaks: Leaks) -> Data:
    """The data set with this fingerprint. leaks: what its runs know."""
    kept = check_folder(folder, fingerprint)
    check = _check(kept / "check.json") if fingerprint else {}
    counts = _listed(kept / "items.csv", classes) if fingerprint else {}
    splits = tuple(counts)
    lines = [(name, tuple(counts[split][name] for split in splits)) for name in classes]
    bare = tuple(counts[split][""] for split in splits)
    if any(bare):
        lines.append(("(no label)", bare))
    if splits:
        lines.append(("all", tuple(sum(counts[split].values()) for split in splits)))
    pairs = check.get("pairs_by_kind") or {}
    return Data(
        fingerprint,
        splits,
        tuple(lines),
        _imbalance([counts["train"][name] for name in classes] if "train" in counts else []),
        bool(check),
        tuple(_found(check)),
        tuple((place, tuple(kinds.get(kind, 0) for kind in COPIES)) for place, kinds in pairs.items()),
        tuple(leak_lines(leaks)),
    )


def _imbalance(train: Sequence[int]) -> float | None:
    """The largest class through the smallest; None where there are none, or one is empty."""
    return max(train) / min(train) if train and min(train) else None


def leak_lines(leaks: Leaks) -> list[str]:
    """`valid: 4 images the same, 2 nearly the same as in train`, a line for each split."""
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
        found = read_json(path) if path.is_file() else {}
    except DataError:
        return {}
    return found if isinstance(found, dict) else {}


def _listed(path: Path, classes: Sequence[str]) -> dict[str, Counter[str]]:
    """split -> label -> images, of items.csv; empty where the data was never listed here."""
    if not path.is_file():
        return {}
    counts: dict[str, Counter[str]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            label = row["label"] if row["label"] in classes else ""
            counts.setdefault(row["split"], Counter())[label] += 1
    return counts


def _found(check: Mapping[str, Any]) -> list[str]:
    """What the check counted, a line for each sort; also those of which there are none, which is good to know."""
    if not check:
        return []
    groups = check.get("groups") or []
    sorts = [
        ("files that cannot be read", len(check.get("unreadable") or {})),
        ("odd files (long and thin, tiny, of one colour, misnamed)", len(check.get("odd") or {})),
        ("groups of copies", len(groups)),
        ("pairs of copies with two labels", len(check.get("two_labels") or [])),
        ("pairs of splits that share groups", len(check.get("shared_groups") or [])),
    ]
    lines = [f"{what}: {count}" for what, count in sorts]
    issues, asked = len(check.get("label_issues") or []), str(check.get("labels_judged_by") or "")
    if asked.startswith("not judged"):
        return [*lines, f"labels: {asked}"]
    return [*lines, f"labels that are likely wrong: {issues} ({asked})"]
