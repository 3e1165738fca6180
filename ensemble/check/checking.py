"""`ens check` as a function of a data set, and its result."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.check.copies import KINDS, Copies, copies, grouped, two_labels
from ensemble.check.files import Headers, damaged, grey, headers, oddities, sizes
from ensemble.check.items import AllItems, Counts, all_items, counts_of
from ensemble.check.labels import LabelIssue, best_run_for_labels, label_issues, valid_accuracy, why_unusable
from ensemble.check.near import LARGE, SMALL, NearPairs, near_pairs
from ensemble.core.errors import DataError, EnsError, one_line
from ensemble.core.files import json_text, without_nan, write_atomically
from ensemble.data.dataset import Dataset
from ensemble.data.image_cache import open_images
from ensemble.data.leaks import Leaks, check_folder, leaks
from ensemble.data.preprocess import Pixels, Preprocess
from ensemble.runs.run import Run

MIN_SIDE = 24
"""Shorter side in pixels below which images have too little detail to find near duplicates."""

Stage = Callable[[str, int, int], None]
"""Called with (name of the stage, steps done, steps)."""


@dataclass(frozen=True)
class Check:
    """Result of a check.

    unreadable: path -> reason, of files that were left out.  odd: row -> reason.  formats: name -> number of files.
    grey: images without colour.  too_small: images excluded from the search for near duplicates.
    groups: rows connected by copies.  conflicts: copies with two labels.
    shared_groups: (split, other split, groups in both).
    label_source: the run whose predictions check the labels, or why there is none.  label_run_kind: its kind or "".
    label_run_accuracy: on the rows it checks, nan without a run; an inaccurate run reports many correct labels.
    """

    name: str
    dataset: Dataset
    items: AllItems
    counts: Counts
    notes: tuple[str, ...]
    unreadable: Mapping[str, str]
    odd: Mapping[int, str]
    formats: Mapping[str, int]
    sizes: Sequence[tuple[str, int]]
    shorter: tuple[int, int, int]
    grey: int
    too_small: int
    low_bits: int
    copies: Copies
    groups: Sequence[Sequence[int]]
    conflicts: Copies
    shared_groups: Sequence[tuple[str, str, tuple[str, ...]]]
    leaks: Leaks
    near_contents: Sequence[tuple[str, str]]
    label_issues: Sequence[LabelIssue]
    label_source: str
    label_run_kind: str
    label_run_accuracy: float

    @property
    def labels_unchecked(self) -> bool:
        """Whether the labels are not checked; `label_source` then holds the reason."""
        return not self.label_run_kind

    def pairs_by_kind(self) -> dict[str, dict[str, int]]:
        """`split` or `split - other split` -> kind -> number of pairs."""
        counts: dict[str, Counter[str]] = {}
        order = list(self.dataset.splits)
        for first, second, kind, _ in self.copies.each():
            a, b = str(self.items.splits[first]), str(self.items.splits[second])
            counts.setdefault(a if a == b else f"{a} - {b}", Counter())[kind] += 1
        split_names = [a if a == b else f"{a} - {b}" for number, a in enumerate(order) for b in order[number:]]
        return {
            split_name: {kind: counts[split_name][kind] for kind in KINDS}
            for split_name in split_names
            if split_name in counts
        }

    def facts(self) -> dict[str, Any]:
        """The result as plain values for JSON."""
        name = self.items.name
        return {
            "schema": 1,
            "data": self.name,
            "fingerprint": self.dataset.fingerprint,
            "tests": dict(self.dataset.test_fingerprints),
            "classes": list(self.counts.classes),
            "read_as_missing": self.counts.read_as_missing,
            "counts": self.counts.by_split,
            "unlabelled": self.counts.unlabelled,
            "imbalance": without_nan(self.counts.imbalance),
            "files": {
                "formats": dict(self.formats),
                "sizes": [[size, count] for size, count in self.sizes],
                "shorter_side": dict(zip(("least", "median", "most"), self.shorter, strict=True)),
                "grey": self.grey,
                "too_small_for_near": self.too_small,
                "low_bits": self.low_bits,
            },
            "notes": list(self.notes),
            "unreadable": dict(self.unreadable),
            "odd": {name(row): reason for row, reason in self.odd.items()},
            "pairs_by_kind": self.pairs_by_kind(),
            "pairs": self._pairs(self.copies),
            "groups": [[name(row) for row in rows] for rows in self.groups],
            "two_labels": self._pairs(self.conflicts),
            "shared_groups": [[a, b, list(names)] for a, b, names in self.shared_groups],
            "leaks": self.leaks,
            "near_contents": [list(pair) for pair in self.near_contents],
            "label_issues": [asdict(issue) for issue in self.label_issues],
            "labels_judged_by": self.label_source,
            "judge_accuracy": without_nan(self.label_run_accuracy),
        }

    def _pairs(self, pairs: Copies) -> list[list[Any]]:
        """[split, id, split, id, kind, correlation] of each pair."""

        def split_and_id(row: int) -> list[str]:
            return [str(self.items.splits[row]), str(self.items.ids[row])]

        return [[*split_and_id(a), *split_and_id(b), kind, round(value, 4)] for a, b, kind, value in pairs.each()]


def _pictures(dataset: Dataset, runs: Path, paths: Sequence[str], file_headers: Headers, stage: Stage) -> Pixels:
    """Every distinct image as a square, uint8 (n, size, size, 3); larger squares where most images are large."""
    size = LARGE if np.median(file_headers.shorter) >= LARGE else SMALL
    (squares,) = open_images(
        dataset,
        list(dataset.splits),
        [Preprocess(size, "squash")],
        runs / ".data" / "squares",
        lambda done, total: stage("decoding", done, total),
    )
    return squares.take(squares.rows(paths))


def check(
    dataset: Dataset,
    runs: Path,
    name: str,
    *,
    unreadable: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    stage: Stage = lambda step, done, total: None,
    warn: Callable[[str], None] = lambda line: None,
) -> Check:
    """Check every image of `dataset`, and save result and leaks in `<runs>/.data/<fingerprint>/`.

    unreadable, notes: results of listing the data.  stage: called with the progress.  warn: called with a message
    if that folder cannot be written. Raises DataError for an image that cannot be read.
    """
    items = all_items(dataset)
    paths = items.paths[items.firsts].tolist()
    file_headers = headers(dataset, paths, lambda done, total: stage("reading headers", done, total))
    pictures = _pictures(dataset, runs, paths, file_headers, stage)
    large = np.flatnonzero(file_headers.shorter >= MIN_SIDE)
    near = _remapped(large, near_pairs(pictures[large], lambda d, t: stage("comparing", d, t)))
    pairs = copies(items, near)
    digests = (items.digests[near.first].tolist(), items.digests[near.second].tolist())
    near_contents = [(str(a), str(b)) for a, b in zip(*digests, strict=True)]
    odd = oddities(file_headers, paths, pictures, damaged(dataset, file_headers, paths, pictures))
    run = best_run_for_labels(runs, dataset.fingerprint)
    result = Check(
        name=name,
        dataset=dataset,
        items=items,
        counts=counts_of(dataset),
        notes=tuple(notes),
        unreadable=dict(unreadable or {}),
        odd=_reasons_by_item(items, odd),
        formats=_formats(file_headers, items),
        sizes=sizes(_by_item(file_headers, items)),
        shorter=tuple(int(np.quantile(file_headers.shorter, q)) for q in (0, 0.5, 1)),  # type: ignore[arg-type]
        grey=grey(pictures),
        too_small=len(paths) - len(large),
        low_bits=0 if file_headers.low is None else int(file_headers.low[items.content].sum()),
        copies=pairs,
        groups=grouped(len(items), pairs),
        conflicts=two_labels(items, pairs),
        shared_groups=shared_groups(dataset),
        leaks=leaks(dataset, near_contents),
        near_contents=near_contents,
        **_labels(run),
    )
    _save(result, check_folder(runs, dataset.fingerprint), warn)
    return result


def _save(result: Check, folder: Path, warn: Callable[[str], None]) -> None:
    try:
        write_atomically(folder / "check.json", json_text(result.facts()))
        write_atomically(folder / "leaks.json", json_text(result.leaks))
    except EnsError as error:
        warn(f"{error}; `ens train` and `ens ls` will not know of near copies")


def shared_groups(dataset: Dataset) -> list[tuple[str, str, tuple[str, ...]]]:
    """(split, other split, groups in both) for each pair of splits that share groups."""
    groups = {
        split: set() if items.groups is None else set(items.groups.tolist())
        for split, items in dataset.splits.items()
    }
    names = list(groups)
    pairs = [(a, b) for number, a in enumerate(names) for b in names[number + 1 :]]
    return [(a, b, tuple(sorted(groups[a] & groups[b]))) for a, b in pairs if groups[a] & groups[b]]


def _remapped(large: np.ndarray, near: NearPairs) -> NearPairs:
    """Pairs of indices into `large` as pairs of indices into all images."""
    return NearPairs(large[near.first], large[near.second], near.mirrored, near.correlation, near.detail)


def _labels(run: Run | None) -> dict[str, Any]:
    """Label issues with id, kind and accuracy of the run; without a usable run: none, the reason, "" and nan."""

    def judged(issues: list[LabelIssue], source: str, kind: str = "", accuracy: float = math.nan) -> dict[str, Any]:
        return {
            "label_issues": issues,
            "label_source": source,
            "label_run_kind": kind,
            "label_run_accuracy": accuracy,
        }

    if run is None:
        return judged([], "not judged, no complete run of this data has validation predictions yet")
    try:
        predictions = run.predictions("valid")
        if reason := why_unusable(predictions):
            return judged([], f"not judged, {run.id} cannot tell: {reason}")
        return judged(label_issues(predictions), run.id, run.kind, valid_accuracy(run))
    except (DataError, ValueError) as error:
        return judged([], f"not judged, {run.id} cannot be asked: {one_line(error)}")


def _by_item(file_headers: Headers, items: AllItems) -> Headers:
    """The headers of all items, of the headers of distinct contents."""
    content = items.content
    low = None if file_headers.low is None else file_headers.low[content]
    return Headers(
        file_headers.format[content],
        file_headers.mode[content],
        file_headers.width[content],
        file_headers.height[content],
        low,
    )


def _formats(file_headers: Headers, items: AllItems) -> dict[str, int]:
    names = [
        f"{name} {mode}" if mode != "RGB" else name
        for name, mode in zip(file_headers.format.tolist(), file_headers.mode.tolist(), strict=True)
    ]
    return dict(Counter(names[content] for content in items.content.tolist()).most_common())


def _reasons_by_item(items: AllItems, odd: Mapping[int, str]) -> dict[int, str]:
    """Reasons by item, of reasons by content."""
    return {row: odd[content] for row, content in enumerate(items.content.tolist()) if content in odd}
