"""`ens check` as one function of a data set, and what it finds as one value."""

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
from ensemble.check.labels import LabelIssue, label_issues, run_to_ask, valid_accuracy, why_not_judged
from ensemble.check.near import LARGE, SMALL, NearPairs, near_pairs
from ensemble.core.errors import DataError, EnsError, one_line
from ensemble.core.files import json_text, without_nan, write_atomically
from ensemble.data.dataset import Dataset
from ensemble.data.image_cache import open_images
from ensemble.data.leaks import Leaks, check_folder, leaks
from ensemble.data.preprocess import Preprocess
from ensemble.runs.run import Run

LEAST = 24
"""Pixels of the shorter side below which pictures say too little to be told apart."""

Stage = Callable[[str, int, int], None]
"""Called with (what is done, done, of how many)."""


@dataclass(frozen=True)
class Check:
    """Everything that was found.

    unreadable: path -> why, the files that were left out.  odd: row -> why.  formats: name -> files.
    grey: images without colour.  too_small: images in which near duplicates were not looked for.
    groups: rows that copies join.  conflicts: the pairs with two labels.  shared_groups: (a split, another, groups
    in both).  asked: the run whose predictions judge the labels, or why none does.  asked_kind: its kind, or "".
    asked_accuracy: on the rows whose labels it judges, nan without it; a poor judge finds many labels wrong.
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
    asked: str
    asked_kind: str
    asked_accuracy: float

    @property
    def why_not_asked(self) -> bool:
        """Whether `asked` says why the labels are not judged."""
        return not self.asked_kind

    def pairs_by_kind(self) -> dict[str, dict[str, int]]:
        """`a split - another` -> kind -> pairs."""
        found: dict[str, Counter[str]] = {}
        order = list(self.dataset.splits)
        for first, second, kind, _ in self.copies.each():
            a, b = str(self.items.splits[first]), str(self.items.splits[second])
            found.setdefault(a if a == b else f"{a} - {b}", Counter())[kind] += 1
        wanted = [a if a == b else f"{a} - {b}" for at, a in enumerate(order) for b in order[at:]]
        return {place: {kind: found[place][kind] for kind in KINDS} for place in wanted if place in found}

    def facts(self) -> dict[str, Any]:
        """Everything as plain values for JSON."""
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
            "odd": {name(row): why for row, why in self.odd.items()},
            "pairs_by_kind": self.pairs_by_kind(),
            "pairs": self._pairs(self.copies),
            "groups": [[name(row) for row in rows] for rows in self.groups],
            "two_labels": self._pairs(self.conflicts),
            "shared_groups": [[a, b, list(names)] for a, b, names in self.shared_groups],
            "leaks": self.leaks,
            "near_contents": [list(pair) for pair in self.near_contents],
            "label_issues": [asdict(issue) for issue in self.label_issues],
            "labels_judged_by": self.asked,
            "judge_accuracy": without_nan(self.asked_accuracy),
        }

    def _pairs(self, found: Copies) -> list[list[Any]]:
        """[split, id, split, id, kind, correlation] of each."""

        def of(row: int) -> list[str]:
            return [str(self.items.splits[row]), str(self.items.ids[row])]

        return [[*of(a), *of(b), kind, round(value, 4)] for a, b, kind, value in found.each()]


def check(
    dataset: Dataset,
    runs: Path,
    name: str,
    *,
    unreadable: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    stage: Stage = lambda what, done, total: None,
    say: Callable[[str], None] = lambda line: None,
) -> Check:
    """Look at every image of `dataset`, and remember what leaks in `<runs>/.data/<fingerprint>/`.

    unreadable, notes: what listing the data has already found.  say: told where the runs cannot be written to.
    Raises DataError for an image that cannot be read.
    """
    items = all_items(dataset)
    paths = items.paths[items.firsts].tolist()
    found = headers(dataset, paths, lambda done, total: stage("reading headers", done, total))
    size = LARGE if np.median(found.shorter) >= LARGE else SMALL
    squares = open_images(
        dataset,
        list(dataset.splits),
        [Preprocess(size, "squash")],
        runs / ".data" / "squares",
        lambda done, total: stage("decoding", done, total),
    )[0]
    pictures = squares.take(squares.rows(paths))
    large = np.flatnonzero(found.shorter >= LEAST)
    near = _of(large, near_pairs(pictures[large], lambda d, t: stage("comparing", d, t)))
    pairs = copies(items, near)
    near_contents = [
        (str(items.digests[a]), str(items.digests[b]))
        for a, b in zip(near.first.tolist(), near.second.tolist(), strict=True)
    ]
    run = run_to_ask(runs, dataset.fingerprint)
    issues, asked, asked_kind, asked_accuracy = _labels(run)
    result = Check(
        name=name,
        dataset=dataset,
        items=items,
        counts=counts_of(dataset),
        notes=tuple(notes),
        unreadable=dict(unreadable or {}),
        odd=_rows(items, oddities(found, paths, pictures, damaged(dataset, found, paths, pictures))),
        formats=_formats(found, items),
        sizes=sizes(_each(found, items)),
        shorter=tuple(int(np.quantile(found.shorter, at)) for at in (0, 0.5, 1)),  # type: ignore[arg-type]
        grey=grey(pictures),
        too_small=len(paths) - len(large),
        low_bits=0 if found.low is None else int(found.low[items.content].sum()),
        copies=pairs,
        groups=grouped(len(items), pairs),
        conflicts=two_labels(items, pairs),
        shared_groups=shared_groups(dataset),
        leaks=leaks(dataset, near_contents),
        near_contents=near_contents,
        label_issues=issues,
        asked=asked,
        asked_kind=asked_kind,
        asked_accuracy=asked_accuracy,
    )
    _remember(result, check_folder(runs, dataset.fingerprint), say)
    return result


def _remember(result: Check, folder: Path, say: Callable[[str], None]) -> None:
    try:
        write_atomically(folder / "check.json", json_text(result.facts()))
        write_atomically(folder / "leaks.json", json_text(result.leaks))
    except EnsError as error:
        say(f"{error}; `ens train` and `ens ls` will not know of near copies")


def shared_groups(dataset: Dataset) -> list[tuple[str, str, tuple[str, ...]]]:
    """(a split, another, the groups that both have), of the splits that share any."""
    groups = {
        split: set() if items.groups is None else set(items.groups.tolist())
        for split, items in dataset.splits.items()
    }
    names = list(groups)
    pairs = [(a, b) for at, a in enumerate(names) for b in names[at + 1 :]]
    return [(a, b, tuple(sorted(groups[a] & groups[b]))) for a, b in pairs if groups[a] & groups[b]]


def _of(large: np.ndarray, near: NearPairs) -> NearPairs:
    """Pairs among the pictures at `large` as pairs of all."""
    return NearPairs(large[near.first], large[near.second], near.mirrored, near.correlation, near.detail)


def _labels(run: Run | None) -> tuple[list[LabelIssue], str, str, float]:
    """The issues; id, kind and accuracy of the run that knows of them, or why none does, nothing and nan."""
    if run is None:
        return [], "not judged, no complete run of this data has validation predictions yet", "", math.nan
    try:
        predictions = run.predictions("valid")
        if why := why_not_judged(predictions):
            return [], f"not judged, {run.id} cannot tell: {why}", "", math.nan
        return label_issues(predictions), run.id, run.kind, valid_accuracy(run)
    except (DataError, ValueError) as error:
        return [], f"not judged, {run.id} cannot be asked: {one_line(error)}", "", math.nan


def _each(found: Headers, items: AllItems) -> Headers:
    """The headers of every item, copies included."""
    at = items.content
    low = None if found.low is None else found.low[at]
    return Headers(found.format[at], found.mode[at], found.width[at], found.height[at], low)


def _formats(found: Headers, items: AllItems) -> dict[str, int]:
    names = [
        f"{name} {mode}" if mode != "RGB" else name
        for name, mode in zip(found.format.tolist(), found.mode.tolist(), strict=True)
    ]
    return dict(Counter(names[at] for at in items.content.tolist()).most_common())


def _rows(items: AllItems, odd: Mapping[int, str]) -> dict[int, str]:
    """What is odd about contents as what is odd about items."""
    return {row: odd[content] for row, content in enumerate(items.content.tolist()) if content in odd}
