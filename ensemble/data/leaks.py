"""Leaks: images of valid or test whose copy, or whose group, is among those that a model has learnt from.

Copies to the byte and shared groups are known from any data set, at no cost. Near duplicates are known once `ens
check` has looked for them: it leaves `<runs>/.data/<fingerprint>/check.json` behind, and beside it `leaks.json`.
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
"""split -> {`exact`, `near`, `group`: how many of its images}; what is none is left out."""

KINDS = ("exact", "near", "group")


def check_folder(runs: Path, fingerprint: str) -> Path:
    """Where what is known of a data set lies."""
    return runs / ".data" / fingerprint


def leaks(dataset: Dataset, near: Sequence[Sequence[str]] = ()) -> Leaks:
    """The images of each split but train that have a copy in train; for tests in train or valid.

    near: pairs of contents (sha256) that are near duplicates. An image with both kinds of copy is exact.
    """
    found: Leaks = {}
    for split, items in dataset.splits.items():
        if split == "train":
            continue
        sources = [dataset.splits[name] for name in ("train", "valid") if name in dataset.splits and name != split]
        counts = _counts(dataset, items, sources, near)
        if counts:
            found[split] = counts
    return found


def _counts(
    dataset: Dataset, items: Items, sources: Sequence[Items], near: Sequence[Sequence[str]]
) -> dict[str, int]:
    learnt = {dataset.content[path] for source in sources for path in source.paths.tolist()}
    like = {b for a, b, *_ in near if a in learnt} | {a for a, b, *_ in near if b in learnt}
    seen = [dataset.content[path] for path in items.paths.tolist()]
    groups = {name for source in sources if source.groups is not None for name in source.groups.tolist()}
    own = [] if items.groups is None else items.groups.tolist()
    counts = {
        "exact": sum(digest in learnt for digest in seen),
        "near": sum(digest in like and digest not in learnt for digest in seen),
        "group": sum(name in groups for name in own),
    }
    return {kind: count for kind, count in counts.items() if count}


def leaks_for_training(dataset: Dataset, runs: Path) -> Leaks:
    """Leaks with the near duplicates of the last `ens check` of this data, where there was one."""
    return leaks(dataset, known_near(runs, dataset.fingerprint))


def known_near(runs: Path, fingerprint: str) -> list[list[str]]:
    """Pairs of contents that `ens check` found to be near duplicates."""
    near = _known(check_folder(runs, fingerprint) / "check.json").get("near_contents")
    return near if isinstance(near, list) else []


def known_leaks(runs: Path, fingerprint: str) -> Leaks:
    """What `ens check` has counted."""
    return {
        split: {kind: int(count) for kind, count in counts.items() if kind in KINDS}
        for split, counts in _known(check_folder(runs, fingerprint) / "leaks.json").items()
        if isinstance(counts, dict)
    }


def _known(path: Path) -> Mapping[str, Any]:
    """A JSON object, empty where there is none: what the check remembers only adds to what is known anyway."""
    try:
        found = read_json(path) if path.is_file() else {}
    except DataError:
        return {}
    return found if isinstance(found, dict) else {}


def merged(first: Leaks, second: Leaks) -> Leaks:
    """The larger count of each."""
    return {
        split: {
            kind: max(first.get(split, {}).get(kind, 0), second.get(split, {}).get(kind, 0))
            for kind in KINDS
            if kind in first.get(split, {}) or kind in second.get(split, {})
        }
        for split in {**first, **second}
    }


def of_folds(members: Sequence[Leaks]) -> Leaks:
    """What leaks into the pooled rows of folds: each validation row is one fold's, the tests are everybody's."""
    found: Leaks = {}
    for leaks_of_one in members:
        summed = {
            kind: found.get("valid", {}).get(kind, 0) + leaks_of_one.get("valid", {}).get(kind, 0) for kind in KINDS
        }
        found = {**merged(found, leaks_of_one), "valid": summed}
    found = {split: {kind: count for kind, count in counts.items() if count} for split, counts in found.items()}
    return {split: counts for split, counts in found.items() if counts}


def described(found: Leaks, dataset: Dataset) -> str:
    """`valid: 4 the same of 150; test: 3 the same, 12 nearly the same of 600`; empty where there are none."""
    words = {"exact": "the same", "near": "nearly the same", "group": "of the same group"}
    parts = []
    for split, counts in found.items():
        said = ", ".join(f"{counts[kind]} {words[kind]}" for kind in KINDS if kind in counts)
        parts.append(f"{split}: {said} of {len(dataset.splits[split])}")
    return "; ".join(parts)


def warning(found: Leaks, dataset: Dataset) -> str:
    """The line that training says; empty where nothing leaks."""
    if not found:
        return ""
    return (
        f"warning: images that are in train too (of tests: in train or valid): {described(found, dataset)};"
        " scores on them look too good; `ens check` shows them"
    )


def total(found: Leaks) -> str:
    """What a leaderboard has room for: `valid 12, test 286`, the images that are copied."""
    counts = {split: values.get("exact", 0) + values.get("near", 0) for split, values in found.items()}
    grouped = {split: values.get("group", 0) for split, values in found.items()}
    shown = {split: max(count, grouped[split]) for split, count in counts.items()}
    order = sorted(shown, key=lambda split: (split != "valid", split))
    return ", ".join(f"{split} {shown[split]}" for split in order if shown[split])
