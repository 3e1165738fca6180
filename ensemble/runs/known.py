"""Whose rows imported predictions are of: those of a run, of the current data set, or of nobody that is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ensemble.data.names import extension, stem
from ensemble.data.notes import Notes
from ensemble.data.spelling import Spellings
from ensemble.errors import MismatchedRuns, first_few
from ensemble.predictions import Predictions, align
from ensemble.runs.run import Run

if TYPE_CHECKING:
    from ensemble.data.dataset import Dataset


@dataclass(frozen=True)
class Known:
    """A set of validation rows that is known here: truth holds ids, classes, targets, groups, no real probs.

    data: the `data` of run.json.  test_ids: of the test that `data` names.
    """

    name: str
    truth: Predictions
    data: Mapping[str, Any]
    test_ids: frozenset[str]


def known_run(run: Run) -> Known:
    """The validation rows of a run."""
    test_ids = frozenset(run.predictions("test").ids.tolist()) if run.has("test") else frozenset()
    return Known(run.id, run.predictions("valid"), run.facts.get("data", {}), test_ids)


def known_dataset(dataset: Dataset) -> Known:
    """The validation rows of a data set."""
    valid, k = dataset.splits["valid"], len(dataset.classes)
    anything = np.full((len(valid), k), 1 / k, np.float32)
    truth = Predictions(valid.ids, anything, dataset.classes, valid.targets, valid.groups, "the current data set")
    data = {"fingerprint": dataset.fingerprint, "tests": dict(dataset.test_fingerprints)}
    test = dataset.splits.get("test")
    return Known(truth.source, truth, data, frozenset(test.ids.tolist() if test else ()))


def match(ours: Predictions, runs: Sequence[Run], dataset: Callable[[], Dataset | None]) -> Known | None:
    """Who knows these ids, else other spellings of them, and these classes."""
    listed = cache(dataset)
    return _matched(ours, runs, listed, _same_ids) or _matched(ours, runs, listed, _same_meant)


def _matched(
    ours: Predictions,
    runs: Sequence[Run],
    dataset: Callable[[], Dataset | None],
    same: Callable[[Predictions, Predictions], bool],
) -> Known | None:
    """Who has the same ids and classes: a run, the current data set's before others; else that data set."""
    usable = [run for run in runs if run.complete and not run.failed and run.kind != "ensemble"]
    found = [run for run in usable if run.has("valid") and _same_rows(ours, run.predictions("valid"), same)]
    current = None
    if len({run.fingerprint for run in found}) != 1 and (current := dataset()) is not None:
        fingerprint = current.fingerprint
        found = [run for run in found if run.fingerprint == fingerprint] or found
    if found:
        return known_run(min(found, key=lambda run: (run.predictions("valid").targets is None, run.id)))
    if current is not None and "valid" in current.splits:
        known = known_dataset(current)
        return known if _same_rows(ours, known.truth, same) else None
    return None


def _same_rows(ours: Predictions, theirs: Predictions, same: Callable[[Predictions, Predictions], bool]) -> bool:
    same_classes = set(theirs.classes.tolist()) == set(ours.classes.tolist())
    return same_classes and len(ours) == len(theirs) and same(ours, theirs)


def _same_ids(ours: Predictions, theirs: Predictions) -> bool:
    return set(theirs.ids.tolist()) == set(ours.ids.tolist())


def _same_meant(ours: Predictions, theirs: Predictions) -> bool:
    """Other targets show that the ids are alike by accident, as numbers may be."""
    meant = _meant(ours, theirs.ids.tolist())
    return meant is not None and not _clash(_renamed(ours, meant), theirs).any()


def completed(ours: Predictions, theirs: Predictions) -> Predictions:
    """`ours` in their order of classes and ids, with their targets and groups. Raises MismatchedRuns."""
    clash = _clash(ours, theirs)
    ours = align(ours, theirs.ids, theirs.classes)
    groups = theirs.groups if ours.groups is None else ours.groups
    if ours.targets is None or theirs.targets is None:
        return replace(ours, targets=theirs.targets if ours.targets is None else ours.targets, groups=groups)
    if clash.any():
        raise MismatchedRuns(
            f"{ours.source} and {theirs.source} have other targets for {clash.sum()} items:"
            f" {first_few(ours.ids[clash])}; import the predictions of one data set"
        )
    return replace(ours, targets=np.where(ours.labelled, ours.targets, theirs.targets), groups=groups)


def _clash(ours: Predictions, theirs: Predictions) -> npt.NDArray[np.bool_]:
    """Where the targets of `theirs` (n,) are known and others in `ours`, in the order of theirs."""
    ours = align(ours, theirs.ids, theirs.classes)
    if ours.targets is None or theirs.targets is None:
        return np.zeros(len(theirs), bool)
    found: npt.NDArray[np.bool_] = (ours.targets != theirs.targets) & ours.labelled & theirs.labelled
    return found


def respelled(predictions: Predictions, ids: Sequence[str], notes: Notes) -> Predictions:
    """The same with `ids` (n,) in place of other spellings of them: with extensions or folders, or without.

    The same object where these are no other spellings of all `ids`, or the ids themselves.
    """
    meant = _meant(predictions, ids)
    if meant is None or meant == predictions.ids.tolist():
        return predictions
    pairs = zip(predictions.ids.tolist(), meant, strict=True)
    theirs, ours = next((theirs, ours) for theirs, ours in pairs if theirs != ours)
    notes.add(f"{predictions.source}: ids such as {theirs!r} are taken for {ours!r}")
    return _renamed(predictions, meant)


def _renamed(predictions: Predictions, ids: Sequence[str]) -> Predictions:
    return replace(predictions, ids=np.array(ids, np.str_))


def _meant(predictions: Predictions, ids: Sequence[str]) -> list[str] | None:
    """The one of `ids` for each row; None unless each is meant once."""
    if len(predictions) != len(ids):
        return None
    rows = [row for row in Spellings(ids).rows(predictions.ids.tolist()) if row is not None]
    return [ids[row] for row in rows] if len(set(rows)) == len(ids) else None


def without_extensions(predictions: Predictions) -> Predictions | None:
    """The same with `a` for the id `a.png`; None unless every id is an image's name and stays unique."""
    names = predictions.ids.tolist()
    bare = [stem(name) for name in names]
    if not all(map(extension, names)) or len(set(bare)) < len(bare):
        return None
    return _renamed(predictions, bare)
