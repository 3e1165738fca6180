"""The members' predictions of one split, aligned by class name and item id, with their common targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ensemble.combine.arrays import fixed_order
from ensemble.core.errors import MismatchedRuns, first_few
from ensemble.core.predictions import UNKNOWN, Floats, Ints, Predictions, Texts, align
from ensemble.runs.imports import ROUNDING_TOLERANCE, is_copy
from ensemble.runs.run import Run


@dataclass(frozen=True)
class Split:
    """One split: ids (n,), classes (k,), probs float32 (m, n, k), targets (n,), -1 if unknown, groups or None."""

    ids: Texts
    classes: Texts
    probs: Floats
    targets: Ints
    groups: Texts | None

    @property
    def labelled(self) -> bool:
        """Whether any target is known."""
        return bool((self.targets != UNKNOWN).any())

    def predictions(self, probs: Floats, source: str) -> Predictions:
        """`probs` (n, k) as predictions of this split's items."""
        targets = self.targets if self.labelled else None
        return Predictions(self.ids, probs, self.classes, targets, self.groups, source)


def gather(runs: Sequence[Run], split: str, classes: Texts | None = None) -> Split:
    """The predictions of `split` by every run, in the order of `runs`, loaded one run at a time.

    classes: the order of the columns; default the most common order among the runs. Raises MismatchedRuns, with
    the run and the first differing items, if classes, ids, targets or groups disagree; DataError for a bad file.
    """
    first = runs[0].predictions(split)
    probs = np.empty((len(runs), *first.probs.shape), np.float32)
    no_probs = np.broadcast_to(np.float32(0), first.probs.shape)
    members, id_orders, class_orders = [], [], []
    for index, run in enumerate(runs):
        predictions = run.predictions(split, like=first) if index else first
        id_orders.append(predictions.ids)
        class_orders.append(_class_order(run, predictions))
        aligned = _aligned(predictions, first, runs, split)
        probs[index] = aligned.probs
        members.append(replace(aligned, probs=no_probs))
    ids = fixed_order(id_orders)
    classes = fixed_order(class_orders) if classes is None else classes
    _reorder(probs, first, ids, classes)
    members = [align(member, ids, classes) for member in members]
    return Split(ids, classes, probs, _targets(members), _groups(members))


def _aligned(predictions: Predictions, first: Predictions, runs: Sequence[Run], split: str) -> Predictions:
    """`predictions` in the order of `first`. Raises MismatchedRuns for the run that differs from the majority."""
    try:
        return align(predictions, first.ids, first.classes)
    except MismatchedRuns:
        loaded = [run.predictions(split) for run in runs]
        classes = fixed_order([_class_order(run, rows) for run, rows in zip(runs, loaded, strict=True)])
        ids = fixed_order([rows.ids for rows in loaded])
        for rows in loaded:
            align(rows, ids, classes)
        raise


def _reorder(probs: Floats, first: Predictions, ids: Texts, classes: Texts) -> None:
    """Reorders probs (m, n, k) in place from the order of `first` to that of `ids` and `classes`."""
    if np.array_equal(first.ids, ids) and np.array_equal(first.classes, classes):
        return
    for member in probs:
        member[:] = align(replace(first, probs=member.copy()), ids, classes).probs


def _class_order(run: Run, predictions: Predictions) -> Texts:
    """The class order of the data set: from run.json, since the columns of a file may be permuted."""
    recorded = np.array(run.record.classes, dtype=np.str_)
    same = len(recorded) == len(predictions.classes) and set(recorded) == set(predictions.classes)
    return recorded if same else predictions.classes


def _targets(members: Sequence[Predictions]) -> Ints:
    """The targets known to any member. Raises MismatchedRuns if two members disagree."""
    agreed = np.full(len(members[0]), UNKNOWN, np.int64)
    source = np.zeros(len(agreed), np.int64)
    for index, member in enumerate(members):
        if member.targets is None:
            continue
        clash = (agreed != UNKNOWN) & (member.targets != UNKNOWN) & (agreed != member.targets)
        if clash.any():
            other = members[int(source[clash][0])]
            raise MismatchedRuns(
                f"{member.source} and {other.source} have other targets for {clash.sum()} items:"
                f" {first_few(member.ids[clash])}; name the runs of one data set"
            )
        new = (agreed == UNKNOWN) & (member.targets != UNKNOWN)
        agreed[new], source[new] = member.targets[new], index
    return agreed


def _groups(members: Sequence[Predictions]) -> Texts | None:
    grouped = [(member, member.groups) for member in members if member.groups is not None]
    for member, groups in grouped[1:]:
        clash = np.not_equal(groups, grouped[0][1])
        if clash.any():
            raise MismatchedRuns(
                f"{member.source} and {grouped[0][0].source} have other groups for {clash.sum()} items:"
                f" {first_few(member.ids[clash])}; name the runs of one data set"
            )
    return grouped[0][1] if grouped else None


def without_copies(members: list[Run], valid: Split) -> tuple[list[Run], Split, list[str]]:
    """Members and their rows without imports that are copies of another member, and a note on each copy."""
    kept: list[int] = []
    notes = []
    # trained runs first, so that an import is the copy that is dropped
    for index in sorted(range(len(members)), key=lambda index: (members[index].is_import, index)):
        originals = [other for other in kept if members[index].is_import and _copied(members, valid, index, other)]
        if originals:
            notes.append(
                f"{members[index].id} has the same predictions as {members[originals[0]].id} and counts once"
            )
        else:
            kept.append(index)
    if not notes:
        return members, valid, []
    kept.sort()
    return [members[index] for index in kept], replace(valid, probs=valid.probs[kept]), notes


def _copied(members: Sequence[Run], valid: Split, index: int, other: int) -> bool:
    """Whether two members have equal predictions; files are compared only if the validation rows nearly agree."""
    near = float(np.abs(valid.probs[index] - valid.probs[other]).max(initial=0)) <= 2 * ROUNDING_TOLERANCE
    return near and is_copy(members[index], members[other])
