"""Predictions made elsewhere become a run; copies of one model's predictions are refused."""

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
from ensemble.runs.import_match import Known, completed, known_run, match, note_of, respelled, without_extensions
from ensemble.runs.origin import usable_runs
from ensemble.runs.run import Run, all_runs
from ensemble.runs.writing import run_id, write_run

if TYPE_CHECKING:
    from ensemble.data.dataset import Dataset


WRITTEN = 5e-4
"""How far probabilities that were written with three decimals may be off."""


def same(first: Predictions, second: Predictions) -> bool:
    """Whether both give the same probabilities, as far as three decimals tell, for the same ids and classes."""
    if first.probs.shape != second.probs.shape or set(first.ids.tolist()) != set(second.ids.tolist()):
        return False
    if set(first.classes.tolist()) != set(second.classes.tolist()):
        return False
    other = align(second, first.ids, first.classes).probs
    return bool(np.abs(first.probs.astype(np.float64) - other).max(initial=0) <= WRITTEN)


def copied_from(splits: Mapping[str, Predictions], runs: Iterable[Run]) -> Run | None:
    """The run whose validation predictions are those of `splits`, unless its test predictions differ."""
    for run in runs:
        with suppress(DataError):  # a run that cannot be read is nobody's copy
            if run.has("valid") and _is_copy(splits, run):
                return run
    return None


def _is_copy(splits: Mapping[str, Predictions], run: Run) -> bool:
    if not same(splits["valid"], run.predictions("valid")):
        return False
    # two models that know no doubt may agree on few rows; what they say of the test tells them apart
    test = splits.get("test")
    return test is None or not run.has("test") or not _differ(test, run.predictions("test"))


def _differ(first: Predictions, second: Predictions) -> bool:
    return set(first.ids.tolist()) == set(second.ids.tolist()) and not same(first, second)


def is_copy(run: Run, other: Run) -> bool:
    """The same of two runs."""
    return (
        copied_from({split: run.predictions(split) for split in ("valid", "test") if run.has(split)}, [other])
        == other
    )


def refuse_shared_rows(valid: Predictions, test: Predictions, known_test: frozenset[str]) -> None:
    """Raises DataError for a test that is the validation rows again, or shares ids with them.

    known_test: the ids of the data set's own test, which may be those of other images that are numbered anew.
    """
    shared = sorted(set(valid.ids.tolist()) & set(test.ids.tolist()) - known_test)
    if same(valid, test) or shared:
        names = shared or sorted(test.ids.tolist())
        raise DataError(
            f"{test.source}: {len(names)} of {len(test)} ids are in {valid.source} too: {first_few(names)};"
            " give the predictions of the test images"
        )


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
