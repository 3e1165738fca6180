"""Predictions made elsewhere become a run, so that they can be combined with ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemble.data.names import extension, natural_key, stem
from ensemble.errors import DataError, MismatchedRuns, first_few, one_line
from ensemble.files import sha256_json
from ensemble.predictions import Predictions, align, sha256_of
from ensemble.runs.copies import copied_from, refuse_shared_rows
from ensemble.runs.import_files import read_predictions
from ensemble.runs.run import Run, all_runs
from ensemble.runs.writing import run_id, write_run

if TYPE_CHECKING:
    from ensemble.data.dataset import Dataset

_PIPELINE = 1


@dataclass(frozen=True)
class Imported:
    """The run; what its targets and data set were taken from or compared with; whether it has targets."""

    run: Run
    matched: str | None
    labelled: bool


@dataclass(frozen=True)
class Known:
    """A set of validation rows that is known here: truth holds ids, classes, targets, groups, no real probs.

    data: the `data` of run.json.  test_ids: of the test that `data` names.
    """

    name: str
    truth: Predictions
    data: Mapping[str, Any]
    test_ids: frozenset[str]


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
    ours = read_predictions(valid)
    known = known_run(targets_from) if targets_from else _match(ours, all_runs(folder), dataset)
    bare = without_extensions(ours)
    # the ids of a data set are without them
    by_file = known is None and bare is not None and (known := _match(bare, all_runs(folder), dataset)) is not None
    if by_file and bare is not None:
        ours = bare
    if known is not None:
        ours = _completed(ours, known.truth)
    else:  # nobody's list to go by
        ours = align(ours, ours.ids, np.array(sorted(ours.classes.tolist(), key=natural_key)))
    splits = {"valid": ours}
    if test is not None:
        tested = read_predictions(test)
        tested = (without_extensions(tested) if by_file else None) or tested
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
    return Imported(run, None if known is None else known.name, ours.targets is not None)


def without_extensions(predictions: Predictions) -> Predictions | None:
    """The same with `a` for the id `a.png`; None unless every id is an image's name and stays unique."""
    names = predictions.ids.tolist()
    bare = [stem(name) for name in names]
    if not all(map(extension, names)) or len(set(bare)) < len(bare):
        return None
    return replace(predictions, ids=np.array(bare, np.str_))


def _refuse_copy(name: str, splits: Mapping[str, Predictions], folder: Path) -> None:
    """Raises DataError where another run holds the same predictions, which would then be counted twice."""
    others = [run for run in all_runs(folder) if run.complete and not run.failed and run.id != name]
    copied = copied_from(splits, others)
    if copied is not None:
        raise DataError(
            f"{splits['valid'].source} holds the predictions of {copied.id}, which would be counted twice; combine"
            f" that one, or delete {one_line(copied.path)} and import again"
        )


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


def _match(ours: Predictions, runs: Sequence[Run], dataset: Callable[[], Dataset | None]) -> Known | None:
    """Who knows these ids and classes: a run, the current data set's before others; else that data set."""
    usable = [run for run in runs if run.complete and not run.failed and run.kind != "ensemble"]
    found = [run for run in usable if run.has("valid") and _same_rows(ours, run.predictions("valid"))]
    current = None
    if len({run.fingerprint for run in found}) != 1 and (current := dataset()) is not None:
        fingerprint = current.fingerprint
        found = [run for run in found if run.fingerprint == fingerprint] or found
    if found:
        return known_run(min(found, key=lambda run: (run.predictions("valid").targets is None, run.id)))
    if current is not None and "valid" in current.splits:
        known = known_dataset(current)
        return known if _same_rows(ours, known.truth) else None
    return None


def _same_rows(ours: Predictions, theirs: Predictions) -> bool:
    same_classes = set(theirs.classes.tolist()) == set(ours.classes.tolist())
    return same_classes and len(ours) == len(theirs) and set(theirs.ids.tolist()) == set(ours.ids.tolist())


def _completed(ours: Predictions, theirs: Predictions) -> Predictions:
    """`ours` in their order of classes and ids, with their targets and groups. Raises MismatchedRuns."""
    ours = align(ours, theirs.ids, theirs.classes)
    groups = theirs.groups if ours.groups is None else ours.groups
    if ours.targets is None or theirs.targets is None:
        return replace(ours, targets=theirs.targets if ours.targets is None else ours.targets, groups=groups)
    clash = (ours.targets != theirs.targets) & ours.labelled & theirs.labelled
    if clash.any():
        raise MismatchedRuns(
            f"{ours.source} and {theirs.source} have other targets for {clash.sum()} items:"
            f" {first_few(ours.ids[clash])}; import the predictions of one data set"
        )
    return replace(ours, targets=np.where(ours.labelled, ours.targets, theirs.targets), groups=groups)


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
