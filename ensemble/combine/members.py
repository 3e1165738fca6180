"""The members' predictions of one split, aligned by class name and item id, and their targets agreed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ensemble.combine.order import agreed_order
from ensemble.errors import MismatchedRuns, first_few
from ensemble.predictions import UNKNOWN, Floats, Ints, Predictions, Texts, align, stacked
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
    """The predictions of `split` by every run, in the order of `runs`.

    classes: the order of the columns; else the one that most runs agree on. Raises MismatchedRuns that names
    the run and the first offenders when classes, ids, targets or groups disagree; DataError for a bad file.
    """
    loaded = [run.predictions(split) for run in runs]
    if classes is None:
        classes = agreed_order([_class_order(run, one) for run, one in zip(runs, loaded, strict=True)])
    ids = agreed_order([one.ids for one in loaded])
    members = [align(one, ids, classes) for one in loaded]
    return Split(ids, classes, stacked(members), _targets(members), _groups(members))


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
