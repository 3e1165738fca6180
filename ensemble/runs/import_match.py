"""The data set whose rows imported predictions are of, and their class numbering."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ensemble.core.errors import MismatchedRuns, first_few
from ensemble.core.names import extension, stem
from ensemble.core.predictions import Floats, Ints, Predictions, Texts, align
from ensemble.data.file_index import Spellings
from ensemble.data.listing import Notes
from ensemble.metrics import labels
from ensemble.runs.run import Run

if TYPE_CHECKING:
    from ensemble.data.dataset import Dataset


SURE = 3.0
"""Standard errors that separate two readings of the targets."""

Flags = npt.NDArray[np.bool_]


def shift_of(targets: Sequence[str], classes: Sequence[str]) -> int | None:
    """1 or -1, where classes are numbers without a gap and `targets` fit once it is added to them; else None.

    They do not fit as they are: a number occurs that is no class, and the class at the other end does not.
    """
    numbers, found = _whole(classes), _whole([name for name in set(targets) if name])
    if numbers is None or found is None or not found:
        return None
    low, high = min(numbers), max(numbers)
    if len(numbers) < 2 or sorted(numbers) != list(range(low, high + 1)):
        return None
    for step, other, unused in ((1, low - 1, high), (-1, high + 1, low)):
        if other in found and unused not in found and all(low <= one + step <= high for one in found):
            return step
    return None


def fits_better(probs: Floats, named: Ints, shifted: Ints) -> bool:
    """Whether the most probable classes of probs (n, k) are `shifted` (n,) more often than `named` and than chance.

    A target of -1, unknown, is never right.
    """
    likely = labels(probs)
    right = likely == shifted
    return _clearly(right, likely == named) and _above_chance(right[shifted >= 0], probs.shape[1])


def note_of(ours: Predictions) -> str | None:
    """A line where the most probable class is often the one beside the target, and rarely the target."""
    if ours.targets is None:
        return None
    known = ours.labelled
    likely, targets, k = labels(ours.probs[known]), ours.targets[known], len(ours.classes)
    right = likely == targets
    # with few classes the class beside is that of many confusions
    if not known.any() or right.mean() >= 1 / k:
        return None
    place = _places(ours.classes)
    for step, beside in ((1, "after"), (-1, "before")):
        moved: Flags = place[likely] == place[targets] + step
        if _clearly(moved, right) and _above_chance(moved, k):
            return (
                f"the accuracy is {right.mean():.4f}, below chance ({1 / k:.4f}); with the class {beside} each"
                f" target it would be {moved.mean():.4f}: are targets counted from another number than classes?"
            )
    return None


def _places(classes: Texts) -> Ints:
    """The places (k,) of the classes in the order of their numbers, else in their own."""
    numbers = _whole(classes.tolist())
    return np.arange(len(classes)) if numbers is None else np.argsort(np.argsort(numbers, kind="stable"))


def _whole(names: Sequence[str]) -> list[int] | None:
    """The names as whole numbers; None where one is not written as these are, as in `01`."""
    plain = all(name.isascii() and (name.isdigit() or (name[:1] == "-" and name[1:].isdigit())) for name in names)
    return [int(name) for name in names] if plain and all(str(int(name)) == name for name in names) else None


def _clearly(first: Flags, second: Flags) -> bool:
    """Whether `first` (n,) is right more often than `second`: the rows on which they differ are not even."""
    gained, lost = int((first & ~second).sum()), int((second & ~first).sum())
    return bool(gained - lost >= SURE * np.sqrt(gained + lost) > 0)


def _above_chance(right: Flags, k: int) -> bool:
    return bool(right.mean() > 1 / k + SURE * np.sqrt((1 / k) * (1 - 1 / k) / len(right)))


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
