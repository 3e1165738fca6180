"""Match imported predictions with the rows of a known data set, and check their class numbering."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ensemble.core.errors import MismatchedRuns, first_few
from ensemble.core.names import extension, stem
from ensemble.core.predictions import Floats, Ints, Predictions, Texts, align
from ensemble.data.file_index import Spellings
from ensemble.data.listing import Notes
from ensemble.metrics import labels
from ensemble.runs.record import DataRecord
from ensemble.runs.run import Run

if TYPE_CHECKING:
    from ensemble.data.dataset import Dataset


Z_THRESHOLD = 3.0
"""Standard errors by which one interpretation of the targets must beat another."""

Flags = npt.NDArray[np.bool_]


def shift_of(targets: Sequence[str], classes: Sequence[str]) -> int | None:
    """The offset, 1 or -1, that turns `targets` into classes; None if there is none.

    Only for classes that are consecutive integers, where some target is no class and the class at the other end of
    the range never occurs.
    """
    numbers, occurring = _integers(classes), _integers([name for name in set(targets) if name])
    if numbers is None or occurring is None or not occurring:
        return None
    low, high = min(numbers), max(numbers)
    if len(numbers) < 2 or sorted(numbers) != list(range(low, high + 1)):
        return None
    for step, outside, unused in ((1, low - 1, high), (-1, high + 1, low)):
        if (
            outside in occurring
            and unused not in occurring
            and all(low <= number + step <= high for number in occurring)
        ):
            return step
    return None


def fits_better(probs: Floats, targets: Ints, shifted: Ints) -> bool:
    """Whether the argmax of probs (n, k) equals `shifted` (n,) significantly more often than `targets` and chance.

    A target of -1, unknown, never matches.
    """
    predicted = labels(probs)
    is_shifted = predicted == shifted
    return _significantly_more(is_shifted, predicted == targets) and _above_chance(
        is_shifted[shifted >= 0], probs.shape[1]
    )


def shift_note(predictions: Predictions) -> str | None:
    """A warning if the argmax is often the class next to the target, and the accuracy below chance; else None."""
    if predictions.targets is None:
        return None
    has_label = predictions.labelled
    predicted, targets, k = (
        labels(predictions.probs[has_label]),
        predictions.targets[has_label],
        len(predictions.classes),
    )
    correct = predicted == targets
    # with few classes, confusions often hit the neighbouring class
    if not has_label.any() or correct.mean() >= 1 / k:
        return None
    ranks = _ranks(predictions.classes)
    for step, side in ((1, "after"), (-1, "before")):
        adjacent: Flags = ranks[predicted] == ranks[targets] + step
        if _significantly_more(adjacent, correct) and _above_chance(adjacent, k):
            return (
                f"the accuracy is {correct.mean():.4f}, below chance ({1 / k:.4f}); with the class {side} each"
                f" target it would be {adjacent.mean():.4f}: are targets counted from another number than classes?"
            )
    return None


def _ranks(classes: Texts) -> Ints:
    """Ranks (k,) of integer class names in numeric order; the indices of other classes."""
    numbers = _integers(classes.tolist())
    return np.arange(len(classes)) if numbers is None else np.argsort(np.argsort(numbers, kind="stable"))


def _integers(names: Sequence[str]) -> list[int] | None:
    """The names as integers; None if one is not the canonical text of an integer, such as `01`."""
    all_integers = all(
        name.isascii() and (name.isdigit() or (name[:1] == "-" and name[1:].isdigit())) for name in names
    )
    return [int(name) for name in names] if all_integers and all(str(int(name)) == name for name in names) else None


def _significantly_more(first: Flags, second: Flags) -> bool:
    """Whether `first` (n,) is true significantly more often than `second`: a sign test of the rows that differ."""
    gained, lost = int((first & ~second).sum()), int((second & ~first).sum())
    return bool(gained - lost >= Z_THRESHOLD * np.sqrt(gained + lost) > 0)


def _above_chance(correct: Flags, k: int) -> bool:
    return bool(correct.mean() > 1 / k + Z_THRESHOLD * np.sqrt((1 / k) * (1 - 1 / k) / len(correct)))


@dataclass(frozen=True)
class Reference:
    """Validation rows of a known data set. truth: ids, classes, targets and groups; its probs are placeholders.

    data: `data` of run.json.  test_ids: ids of the test set of `data`.
    """

    name: str
    truth: Predictions
    data: DataRecord
    test_ids: frozenset[str]


def run_reference(run: Run) -> Reference:
    """The validation rows of a run as a reference."""
    test_ids = frozenset(run.predictions("test").ids.tolist()) if run.has("test") else frozenset()
    return Reference(run.id, run.predictions("valid"), run.record.data, test_ids)


def dataset_reference(dataset: Dataset) -> Reference:
    """The validation rows of a data set as a reference."""
    valid, k = dataset.splits["valid"], len(dataset.classes)
    uniform = np.full((len(valid), k), 1 / k, np.float32)
    truth = Predictions(valid.ids, uniform, dataset.classes, valid.targets, valid.groups, "the current data set")
    data = DataRecord({"fingerprint": dataset.fingerprint, "tests": dict(dataset.test_fingerprints)})
    test = dataset.splits.get("test")
    return Reference(truth.source, truth, data, frozenset(test.ids.tolist() if test else ()))


def find_reference(
    predictions: Predictions, runs: Sequence[Run], dataset: Callable[[], Dataset | None]
) -> Reference | None:
    """The run or data set with these ids, or other spellings of them, and these classes; None without one."""
    cached_dataset = cache(dataset)
    return _find_reference(predictions, runs, cached_dataset, _same_ids) or _find_reference(
        predictions, runs, cached_dataset, _same_items
    )


def _find_reference(
    predictions: Predictions,
    runs: Sequence[Run],
    dataset: Callable[[], Dataset | None],
    same: Callable[[Predictions, Predictions], bool],
) -> Reference | None:
    """The run with the same ids and classes, preferring the current data set; else that data set, else None."""
    usable = [run for run in runs if run.complete and not run.failed and not run.is_ensemble]
    matching = [
        run for run in usable if run.has("valid") and _same_rows(predictions, run.predictions("valid"), same)
    ]
    current = None
    if len({run.fingerprint for run in matching}) != 1 and (current := dataset()) is not None:
        fingerprint = current.fingerprint
        matching = [run for run in matching if run.fingerprint == fingerprint] or matching
    if matching:
        return run_reference(min(matching, key=lambda run: (run.predictions("valid").targets is None, run.id)))
    if current is not None and "valid" in current.splits:
        reference = dataset_reference(current)
        return reference if _same_rows(predictions, reference.truth, same) else None
    return None


def _same_rows(
    predictions: Predictions, truth: Predictions, same: Callable[[Predictions, Predictions], bool]
) -> bool:
    same_classes = set(truth.classes.tolist()) == set(predictions.classes.tolist())
    return same_classes and len(predictions) == len(truth) and same(predictions, truth)


def _same_ids(predictions: Predictions, truth: Predictions) -> bool:
    return set(truth.ids.tolist()) == set(predictions.ids.tolist())


def _same_items(predictions: Predictions, truth: Predictions) -> bool:
    """Whether the ids are other spellings of the same items; conflicting targets mean that they only look alike."""
    ids = _mapped_ids(predictions, truth.ids.tolist())
    return ids is not None and not _conflicts(_with_ids(predictions, ids), truth).any()


def with_targets(predictions: Predictions, truth: Predictions) -> Predictions:
    """`predictions` in the order of `truth`, with its targets and groups. Raises MismatchedRuns for conflicts."""
    conflicts = _conflicts(predictions, truth)
    predictions = align(predictions, truth.ids, truth.classes)
    groups = truth.groups if predictions.groups is None else predictions.groups
    if predictions.targets is None or truth.targets is None:
        return replace(
            predictions,
            targets=truth.targets if predictions.targets is None else predictions.targets,
            groups=groups,
        )
    if conflicts.any():
        raise MismatchedRuns(
            f"{predictions.source} and {truth.source} have other targets for {conflicts.sum()} items:"
            f" {first_few(predictions.ids[conflicts])}; import the predictions of one data set"
        )
    return replace(
        predictions, targets=np.where(predictions.labelled, predictions.targets, truth.targets), groups=groups
    )


def _conflicts(predictions: Predictions, truth: Predictions) -> npt.NDArray[np.bool_]:
    """bool (n,), in the order of `truth`: whether both have a target and the targets differ."""
    predictions = align(predictions, truth.ids, truth.classes)
    if predictions.targets is None or truth.targets is None:
        return np.zeros(len(truth), bool)
    differs: npt.NDArray[np.bool_] = (predictions.targets != truth.targets) & predictions.labelled & truth.labelled
    return differs


def respelled(predictions: Predictions, ids: Sequence[str], notes: Notes) -> Predictions:
    """`predictions` with `ids` (n,) in place of other spellings, with or without file extensions or folders.

    The same object if its ids equal `ids` or do not spell all of them.
    """
    mapped_ids = _mapped_ids(predictions, ids)
    if mapped_ids is None or mapped_ids == predictions.ids.tolist():
        return predictions
    pairs = zip(predictions.ids.tolist(), mapped_ids, strict=True)
    given_id, known_id = next((given_id, known_id) for given_id, known_id in pairs if given_id != known_id)
    notes.add(f"{predictions.source}: ids such as {given_id!r} are taken for {known_id!r}")
    return _with_ids(predictions, mapped_ids)


def _with_ids(predictions: Predictions, ids: Sequence[str]) -> Predictions:
    return replace(predictions, ids=np.array(ids, np.str_))


def _mapped_ids(predictions: Predictions, ids: Sequence[str]) -> list[str] | None:
    """The entry of `ids` that each row spells; None unless every entry is matched exactly once."""
    if len(predictions) != len(ids):
        return None
    rows = [row for row in Spellings(ids).rows(predictions.ids.tolist()) if row is not None]
    return [ids[row] for row in rows] if len(set(rows)) == len(ids) else None


def without_extensions(predictions: Predictions) -> Predictions | None:
    """`predictions` with the id `a` for `a.png`; None unless all are image file names and stay unique."""
    names = predictions.ids.tolist()
    stems = [stem(name) for name in names]
    if not all(map(extension, names)) or len(set(stems)) < len(stems):
        return None
    return _with_ids(predictions, stems)
