"""Predictions made elsewhere become a run, so that they can be combined with ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemble.data.names import natural_key
from ensemble.data.notes import Notes
from ensemble.errors import DataError, abbreviated, one_line
from ensemble.files import sha256_json
from ensemble.predictions import Predictions, align, sha256_of
from ensemble.runs.copies import copied_from, refuse_shared_rows
from ensemble.runs.counted import note_of
from ensemble.runs.import_files import read_predictions
from ensemble.runs.known import Known, completed, known_run, match, respelled, without_extensions
from ensemble.runs.origin import usable_runs
from ensemble.runs.run import Run, all_runs
from ensemble.runs.writing import run_id, write_run

if TYPE_CHECKING:
    from ensemble.data.dataset import Dataset

_PIPELINE = 1


@dataclass(frozen=True)
class Imported:
    """The run; what its targets and data set were taken from or compared with; whether it has targets.

    notes: what a person should know, one line each.
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
    """Make the run `folder/<name>-<hash8>` of kind `import` from a CSV or an npz for each split.

    Targets that the file lacks, the order of classes, groups and the data set come from `targets_from`, else
    from a complete run with the same validation ids and classes, else from the current data set, which
    `dataset` gives when it is needed, None where its images are not there. arch: the architecture that it counts
    as; without one it is its own.
    Classes that nobody lists are in natural order. Raises DataError or MismatchedRuns, and then nothing is written.
    """
    notes = Notes()
    ours = read_predictions(valid, notes)
    known = known_run(targets_from) if targets_from else match(ours, all_runs(folder), dataset)
    if known is not None:
        spelled = respelled(ours, known.truth.ids.tolist(), notes)
        by_file, ours = spelled is not ours, completed(spelled, known.truth)
    else:  # nobody's list to go by
        by_file, ours = False, align(ours, ours.ids, np.array(sorted(ours.classes.tolist(), key=natural_key)))
    splits = {"valid": ours}
    if test is not None:
        tested = _tested(test, known, by_file, notes)
        splits["test"] = align(tested, tested.ids, ours.classes)
        refuse_shared_rows(ours, splits["test"], known.test_ids if known else frozenset())
    digest = sha256_json(
        {"pipeline": _PIPELINE, "kind": "import", "arch": arch, "valid": sha256_of(ours, whole=True)}
    )
    facts = {
        "kind": "import",
        "name": name,
        "hash": digest,
        "pipeline": _PIPELINE,
        "parents": [],
        "arch": arch,
        "fold": None,
        "data": _data(splits, known),
        "classes": ours.classes.tolist(),
        "imported": {split: path.name for split, path in (("valid", valid), ("test", test)) if path},
        "chosen_on_valid": [],
    }
    path = folder / run_id(name, digest)
    _refuse_copy(path.name, splits, folder)
    run = write_run(path, facts, predictions=splits)
    for line in (note_of(ours), _namesakes(run, name)):
        if line is not None:
            notes.add(line)
    return Imported(run, None if known is None else known.name, ours.targets is not None, tuple(notes.all()))


def _tested(path: Path, known: Known | None, by_file: bool, notes: Notes) -> Predictions:
    """The predictions of the test, with the ids of the known test where these are meant.

    by_file: whether the validation ids were other spellings of those that are known.
    """
    tested = read_predictions(path, notes)
    spelled = tested if known is None else respelled(tested, sorted(known.test_ids), notes)
    return (without_extensions(tested) if by_file and spelled is tested else None) or spelled


def _namesakes(made: Run, name: str) -> str | None:
    """A line on other imports of this name and data set, which `ens combine` takes too."""
    others = [
        run.path
        for run in usable_runs(made.path.parent)
        if run.kind == "import"
        and run.facts.get("name") == name
        and run.id != made.id
        and run.fingerprint == made.fingerprint
    ]
    if not others:
        return None
    there, it = ("is", "it") if len(others) == 1 else ("are", "they")
    return (
        f"{abbreviated(path.name for path in others)} of this name and data {there} there already; {it} will vote"
        f" beside {made.id}: delete {abbreviated(one_line(path) for path in others)} where {it} should not"
    )


def _refuse_copy(name: str, splits: Mapping[str, Predictions], folder: Path) -> None:
    """Raises DataError where another run holds the same predictions, which would then be counted twice."""
    others = [run for run in all_runs(folder) if run.complete and not run.failed and run.id != name]
    copied = copied_from(splits, others)
    if copied is not None:
        raise DataError(
            f"{splits['valid'].source} holds the predictions of {copied.id}, which would be counted twice; combine"
            f" that one, or delete {one_line(copied.path)} and import again"
        )


def _data(splits: Mapping[str, Predictions], known: Known | None) -> dict[str, Any]:
    """`data` of run.json: the known data set's, and its test where the ids are the same."""
    if known is None:
        return {"form": None, "fingerprint": sha256_of(splits["valid"]), "tests": {}}
    tests = known.data.get("tests", {})
    same = "test" in splits and "test" in tests and known.test_ids == set(splits["test"].ids.tolist())
    return {
        "form": known.data.get("form"),
        "fingerprint": str(known.data.get("fingerprint", "")),
        "tests": {"test": tests["test"]} if same else {},
    }
