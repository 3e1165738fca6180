"""The members' predictions of one split, aligned by class name and item id, and their targets agreed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ensemble.combine.arrays import fixed_order
from ensemble.core.errors import MismatchedRuns, first_few
from ensemble.core.predictions import UNKNOWN, Floats, Ints, Predictions, Texts, align
from ensemble.runs.imports import WRITTEN, is_copy
from ensemble.runs.run import Run


@dataclass(frozen=True)
class Split:
    """One split: ids (n,), classes (k,), probs float32 (m, n, k), targets (n,) with -1, groups or None."""

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
    """The predictions of `split` by every run, in the order of `runs`, read one after the other.

    classes: the order of the columns; else the one that most runs agree on. Raises MismatchedRuns that names
    the run and the first offenders when classes, ids, targets or groups disagree; DataError for a bad file.
    """
    first = runs[0].predictions(split)
    probs = np.empty((len(runs), *first.probs.shape), np.float32)
    said_elsewhere = np.broadcast_to(np.float32(0), first.probs.shape)
    members, id_orders, class_orders = [], [], []
    for index, run in enumerate(runs):
        one = run.predictions(split, like=first) if index else first
        id_orders.append(one.ids)
        class_orders.append(_class_order(run, one))
        aligned = _aligned(one, first, runs, split)
        probs[index] = aligned.probs
        members.append(replace(aligned, probs=said_elsewhere))
    ids = fixed_order(id_orders)
    classes = fixed_order(class_orders) if classes is None else classes
    _reorder(probs, first, ids, classes)
    members = [align(one, ids, classes) for one in members]
    return Split(ids, classes, probs, _targets(members), _groups(members))


def _aligned(one: Predictions, first: Predictions, runs: Sequence[Run], split: str) -> Predictions:
    """`one` in the order of the first run. Raises MismatchedRuns that names the run that most disagree with."""
    try:
        return align(one, first.ids, first.classes)
    except MismatchedRuns:
        loaded = [run.predictions(split) for run in runs]
        classes = fixed_order([_class_order(run, other) for run, other in zip(runs, loaded, strict=True)])
        ids = fixed_order([other.ids for other in loaded])
        for other in loaded:
            align(other, ids, classes)
        raise


def _reorder(probs: Floats, first: Predictions, ids: Texts, classes: Texts) -> None:
    """Puts probs (m, n, k) from the order of `first` into that of `ids` and `classes`, member by member."""
    if np.array_equal(first.ids, ids) and np.array_equal(first.classes, classes):
        return
    for member in probs:
        member[:] = align(replace(first, probs=member.copy()), ids, classes).probs


def _class_order(run: Run, predictions: Predictions) -> Texts:
    """The data set's own order as the run knows it: a file's columns may be permuted, run.json is not."""
    recorded = np.array([str(name) for name in run.facts.get("classes") or ()], dtype=np.str_)
    same = len(recorded) == len(predictions.classes) and set(recorded) == set(predictions.classes)
    return recorded if same else predictions.classes


def _targets(members: Sequence[Predictions]) -> Ints:
    """The target that any member knows; MismatchedRuns where two disagree."""
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


def each_once(members: list[Run], valid: Split) -> tuple[list[Run], Split, list[str]]:
    """Members and their rows without imports that hold the predictions of another member, and a note on each."""
    kept: list[int] = []
    notes = []
    # a trained run goes before its copy
    for at in sorted(range(len(members)), key=lambda at: (members[at].kind == "import", at)):
        same = [one for one in kept if members[at].kind == "import" and _copied(members, valid, at, one)]
        if same:
            notes.append(f"{members[at].id} has the same predictions as {members[same[0]].id} and counts once")
        else:
            kept.append(at)
    if not notes:
        return members, valid, []
    kept.sort()
    return [members[at] for at in kept], replace(valid, probs=valid.probs[kept]), notes


def _copied(members: Sequence[Run], valid: Split, at: int, other: int) -> bool:
    """Whether two members are one; their files are read again only where their validation rows look alike."""
    near = float(np.abs(valid.probs[at] - valid.probs[other]).max(initial=0)) <= 2 * WRITTEN
    return near and is_copy(members[at], members[other])
