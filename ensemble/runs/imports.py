"""Import external predictions as a run; duplicates of a run's predictions are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemble.core.errors import DataError, abbreviated, first_few, one_line
from ensemble.core.files import sha256_json
from ensemble.core.names import natural_key
from ensemble.core.predictions import Predictions, align, sha256_of
from ensemble.data.listing import Notes
from ensemble.runs.import_files import read_predictions
from ensemble.runs.import_match import (
    Reference,
    find_reference,
    respelled,
    run_reference,
    shift_note,
    with_targets,
    without_extensions,
)
from ensemble.runs.origin import usable_runs
from ensemble.runs.record import Kind
from ensemble.runs.run import Run, all_runs
from ensemble.runs.writing import run_id, write_run

if TYPE_CHECKING:
    from ensemble.data.dataset import Dataset


ROUNDING_TOLERANCE = 5e-4
"""Largest rounding error of probabilities written with three decimals."""


def same_predictions(first: Predictions, second: Predictions) -> bool:
    """Whether both have the same ids and classes and, up to three decimals, the same probabilities."""
    if first.probs.shape != second.probs.shape or set(first.ids.tolist()) != set(second.ids.tolist()):
        return False
    if set(first.classes.tolist()) != set(second.classes.tolist()):
        return False
    other = align(second, first.ids, first.classes).probs
    return bool(np.abs(first.probs.astype(np.float64) - other).max(initial=0) <= ROUNDING_TOLERANCE)


def copied_from(splits: Mapping[str, Predictions], runs: Iterable[Run]) -> Run | None:
    """The run with the same validation predictions as `splits`, unless the test predictions differ; else None."""
    for run in runs:
        with suppress(DataError):  # an unreadable run cannot be compared
            if run.has("valid") and _is_copy(splits, run):
                return run
    return None


def _is_copy(splits: Mapping[str, Predictions], run: Run) -> bool:
    if not same_predictions(splits["valid"], run.predictions("valid")):
        return False
    # two overconfident models may agree on few validation rows; their test predictions differ
    test = splits.get("test")
    return test is None or not run.has("test") or not _differ(test, run.predictions("test"))


def _differ(first: Predictions, second: Predictions) -> bool:
    return set(first.ids.tolist()) == set(second.ids.tolist()) and not same_predictions(first, second)


def is_copy(run: Run, other: Run) -> bool:
    """Whether `run` duplicates the predictions of `other`, as `copied_from` decides."""
    return (
        copied_from({split: run.predictions(split) for split in ("valid", "test") if run.has(split)}, [other])
        == other
    )


def refuse_shared_rows(valid: Predictions, test: Predictions, known_test: frozenset[str]) -> None:
    """Raises DataError if the test predictions repeat the validation rows or share ids with them.

    known_test: ids of the data set's own test set, which may repeat validation ids if each split is numbered from
    its own start.
    """
    shared = sorted(set(valid.ids.tolist()) & set(test.ids.tolist()) - known_test)
    if same_predictions(valid, test) or shared:
        names = shared or sorted(test.ids.tolist())
        raise DataError(
            f"{test.source}: {len(names)} of {len(test)} ids are in {valid.source} too: {first_few(names)};"
            " give the predictions of the test images"
        )


_PIPELINE = 1


@dataclass(frozen=True)
class Imported:
    """Result of an import. matched: name of the run or data set that gave targets and data, or None.

    labelled: whether the run has targets.  notes: remarks for the user, one line each.
    """

    run: Run
    matched: str | None
    labelled: bool
    notes: tuple[str, ...] = ()


def import_run(
    name: str,
    *,
    folder: Path,
    valid: Path,
    test: Path | None = None,
    arch: str | None = None,
    targets_from: Run | None = None,
    dataset: Callable[[], Dataset | None] = lambda: None,
) -> Imported:
    """Write the run `folder/<name>-<hash8>` of kind `import` from a CSV or an npz for each split.

    Missing targets, the order of classes, groups and the data set come from `targets_from`, else from a complete
    run with the same validation ids and classes, else from the current data set. dataset: called only if needed;
    returns None if the images are missing. arch: the architecture that the run counts as, by default one of its
    own. Without a reference, classes are in natural order. Raises DataError or MismatchedRuns before anything is
    written.
    """
    notes = Notes()
    splits, reference = _read(valid, test, targets_from, folder, dataset, notes)
    predictions = splits["valid"]
    full_hash = sha256_json(
        {"pipeline": _PIPELINE, "kind": "import", "arch": arch, "valid": sha256_of(predictions, with_probs=True)}
    )
    facts = {
        "kind": Kind.IMPORT,
        "name": name,
        "hash": full_hash,
        "pipeline": _PIPELINE,
        "parents": [],
        "arch": arch,
        "fold": None,
        "data": _data(splits, reference),
        "classes": predictions.classes.tolist(),
        "imported": {split: path.name for split, path in (("valid", valid), ("test", test)) if path},
        "chosen_on_valid": [],
    }
    path = folder / run_id(name, full_hash)
    _refuse_copy(path.name, splits, folder)
    run = write_run(path, facts, predictions=splits)
    for note in (shift_note(predictions), _same_name_note(run, name)):
        if note is not None:
            notes.add(note)
    return Imported(
        run, None if reference is None else reference.name, predictions.targets is not None, tuple(notes.all())
    )


def _read(
    valid: Path,
    test: Path | None,
    targets_from: Run | None,
    folder: Path,
    dataset: Callable[[], Dataset | None],
    notes: Notes,
) -> tuple[dict[str, Predictions], Reference | None]:
    """The predictions of each split, matched with their reference if there is one."""
    predictions = read_predictions(valid, notes)
    reference = (
        run_reference(targets_from) if targets_from else find_reference(predictions, all_runs(folder), dataset)
    )
    if reference is not None:
        spelled = respelled(predictions, reference.truth.ids.tolist(), notes)
        by_file, predictions = spelled is not predictions, with_targets(spelled, reference.truth)
    else:  # no reference for the order of classes
        classes = np.array(sorted(predictions.classes.tolist(), key=natural_key))
        by_file, predictions = False, align(predictions, predictions.ids, classes)
    splits = {"valid": predictions}
    if test is not None:
        test_predictions = _read_test(test, reference, by_file, notes)
        splits["test"] = align(test_predictions, test_predictions.ids, predictions.classes)
        refuse_shared_rows(predictions, splits["test"], reference.test_ids if reference else frozenset())
    return splits, reference


def _read_test(path: Path, reference: Reference | None, by_file: bool, notes: Notes) -> Predictions:
    """The test predictions, with the ids of the reference's test set if theirs are other spellings of these.

    by_file: whether the validation ids were other spellings of the reference's ids.
    """
    predictions = read_predictions(path, notes)
    spelled = predictions if reference is None else respelled(predictions, sorted(reference.test_ids), notes)
    return (without_extensions(predictions) if by_file and spelled is predictions else None) or spelled


def _same_name_note(imported: Run, name: str) -> str | None:
    """A note on other imports of this name and data set, which `ens combine` includes too; None without any."""
    others = [
        run.path
        for run in usable_runs(imported.path.parent)
        if run.is_import
        and run.record.name == name
        and run.id != imported.id
        and run.fingerprint == imported.fingerprint
    ]
    if not others:
        return None
    verb, it = ("is", "it") if len(others) == 1 else ("are", "they")
    return (
        f"{abbreviated(path.name for path in others)} of this name and data {verb} there already; {it} will vote"
        f" beside {imported.id}: delete {abbreviated(one_line(path) for path in others)} where {it} should not"
    )


def _refuse_copy(name: str, splits: Mapping[str, Predictions], folder: Path) -> None:
    """Raises DataError if another run holds the same predictions, which would then be weighted twice."""
    others = [run for run in all_runs(folder) if run.complete and not run.failed and run.id != name]
    copied = copied_from(splits, others)
    if copied is not None:
        raise DataError(
            f"{splits['valid'].source} holds the predictions of {copied.id}, which would be counted twice; combine"
            f" that one, or delete {one_line(copied.path)} and import again"
        )


def _data(splits: Mapping[str, Predictions], reference: Reference | None) -> dict[str, Any]:
    """`data` of run.json: that of the reference, with its test set if the test ids are equal."""
    if reference is None:
        return {"form": None, "fingerprint": sha256_of(splits["valid"]), "tests": {}}
    tests = reference.data.tests
    same_test = "test" in splits and "test" in tests and reference.test_ids == set(splits["test"].ids.tolist())
    return {
        "form": reference.data.form,
        "fingerprint": reference.data.fingerprint,
        "tests": {"test": tests["test"]} if same_test else {},
    }
