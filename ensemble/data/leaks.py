"""Leaks: images of valid or test with a copy, or with a member of their group, in the training data.

Identical files and shared groups are detected for any data set at no cost. Near duplicates are known after `ens
check`, which writes `check.json` and `leaks.json` to `<runs>/.data/<fingerprint>/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble.core.errors import DataError
from ensemble.core.files import read_json

if TYPE_CHECKING:
    from ensemble.data.dataset import Dataset, Items


Leaks = dict[str, dict[str, int]]
"""split -> {`exact`, `near`, `group`: number of images}; zero counts are left out."""

KINDS = ("exact", "near", "group")


def check_folder(runs: Path, fingerprint: str) -> Path:
    """The folder of the results of `ens check` for a data set."""
    return runs / ".data" / fingerprint


def leaks(dataset: Dataset, near: Sequence[Sequence[str]] = ()) -> Leaks:
    """The images of each split except train that have a copy in train; for tests in train or valid.

    near: pairs of contents (SHA-256) that are near duplicates. An image with both kinds of copy counts as exact.
    """
    split_leaks: Leaks = {}
    for split, items in dataset.splits.items():
        if split == "train":
            continue
        sources = [dataset.splits[name] for name in ("train", "valid") if name in dataset.splits and name != split]
        counts = _counts(dataset, items, sources, near)
        if counts:
            split_leaks[split] = counts
    return split_leaks


def _counts(
    dataset: Dataset, items: Items, sources: Sequence[Items], near: Sequence[Sequence[str]]
) -> dict[str, int]:
    train_digests = {dataset.content[path] for source in sources for path in source.paths.tolist()}
    near_digests = {second for first, second, *_ in near if first in train_digests} | {
        first for first, second, *_ in near if second in train_digests
    }
    digests = [dataset.content[path] for path in items.paths.tolist()]
    train_groups = {name for source in sources if source.groups is not None for name in source.groups.tolist()}
    groups = [] if items.groups is None else items.groups.tolist()
    counts = {
        "exact": sum(digest in train_digests for digest in digests),
        "near": sum(digest in near_digests and digest not in train_digests for digest in digests),
        "group": sum(name in train_groups for name in groups),
    }
    return {kind: count for kind, count in counts.items() if count}


def leaks_for_training(dataset: Dataset, runs: Path) -> Leaks:
    """Leaks, with the near duplicates of the last `ens check` of the data set, if there was one."""
    return leaks(dataset, known_near(runs, dataset.fingerprint))


def known_near(runs: Path, fingerprint: str) -> list[list[str]]:
    """Pairs of contents that are near duplicates according to `ens check`."""
    near = _read_object(check_folder(runs, fingerprint) / "check.json").get("near_contents")
    return near if isinstance(near, list) else []


def known_leaks(runs: Path, fingerprint: str) -> Leaks:
    """The leaks that `ens check` has counted."""
    return {
        split: {kind: int(count) for kind, count in counts.items() if kind in KINDS}
        for split, counts in _read_object(check_folder(runs, fingerprint) / "leaks.json").items()
        if isinstance(counts, dict)
    }


def _read_object(path: Path) -> Mapping[str, Any]:
    """A JSON object; empty if it cannot be read, as the results of `ens check` are optional."""
    try:
        value = read_json(path) if path.is_file() else {}
    except DataError:
        return {}
    return value if isinstance(value, dict) else {}


def merged(first: Leaks, second: Leaks) -> Leaks:
    """The larger count of each split and kind."""
    return {
        split: {
            kind: max(first.get(split, {}).get(kind, 0), second.get(split, {}).get(kind, 0))
            for kind in KINDS
            if kind in first.get(split, {}) or kind in second.get(split, {})
        }
        for split in {**first, **second}
    }


def of_folds(members: Sequence[Leaks]) -> Leaks:
    """The leaks of pooled folds: the sum for valid, as each row is in one fold, and the maximum for tests."""
    pooled: Leaks = {}
    for fold_leaks in members:
        summed = {
            kind: pooled.get("valid", {}).get(kind, 0) + fold_leaks.get("valid", {}).get(kind, 0) for kind in KINDS
        }
        pooled = {**merged(pooled, fold_leaks), "valid": summed}
    pooled = {split: {kind: count for kind, count in counts.items() if count} for split, counts in pooled.items()}
    return {split: counts for split, counts in pooled.items() if counts}


def described(split_leaks: Leaks, dataset: Dataset) -> str:
    """`valid: 4 the same of 150; test: 3 the same, 12 nearly the same of 600`; empty if there are none."""
    words = {"exact": "the same", "near": "nearly the same", "group": "of the same group"}
    parts = []
    for split, counts in split_leaks.items():
        text = ", ".join(f"{counts[kind]} {words[kind]}" for kind in KINDS if kind in counts)
        parts.append(f"{split}: {text} of {len(dataset.splits[split])}")
    return "; ".join(parts)


def warning(split_leaks: Leaks, dataset: Dataset) -> str:
    """The warning before training; empty without leaks."""
    if not split_leaks:
        return ""
    return (
        f"warning: images that are in train too (of tests: in train or valid): {described(split_leaks, dataset)};"
        " scores on them look too good; `ens check` shows them"
    )


def total(split_leaks: Leaks) -> str:
    """Text for a leaderboard, such as `valid 12, test 286`: the larger of the copies and the group members."""
    counts = {split: values.get("exact", 0) + values.get("near", 0) for split, values in split_leaks.items()}
    in_groups = {split: values.get("group", 0) for split, values in split_leaks.items()}
    totals = {split: max(count, in_groups[split]) for split, count in counts.items()}
    order = sorted(totals, key=lambda split: (split != "valid", split))
    return ", ".join(f"{split} {totals[split]}" for split in order if totals[split])
