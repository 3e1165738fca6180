"""Predictions made elsewhere become a run, so that they can be combined with ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemble.data.csvrows import read_rows
from ensemble.data.names import natural_key, nfc
from ensemble.errors import DataError, MismatchedRuns, first_few, one_line
from ensemble.files import sha256_json
from ensemble.predictions import UNKNOWN, Floats, Ints, Predictions, align, checked, load, sha256_of
from ensemble.runs.copies import copied_from, refuse_shared_rows
from ensemble.runs.run import Run, all_runs
from ensemble.runs.writing import run_id, write_run

if TYPE_CHECKING:
    from ensemble.data.dataset import Dataset

TARGET_COLUMNS = ("target", "label")
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
    if known is not None:
        ours = _completed(ours, known.truth)
    else:  # nobody's list to go by
        ours = align(ours, ours.ids, np.array(sorted(ours.classes.tolist(), key=natural_key)))
    splits = {"valid": ours}
    if test is not None:
        tested = read_predictions(test)
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


def _refuse_copy(name: str, splits: Mapping[str, Predictions], folder: Path) -> None:
    """Raises DataError where another run holds the same predictions, which would then be counted twice."""
    others = [run for run in all_runs(folder) if run.complete and not run.failed and run.id != name]
    copied = copied_from(splits, others)
    if copied is not None:
        raise DataError(
            f"{splits['valid'].source} holds the predictions of {copied.id}, which would be counted twice; combine"
            f" that one, or delete {one_line(copied.path)} and import again"
        )


def read_predictions(path: Path) -> Predictions:
    """Predictions from an npz, or a CSV: ids first, a column a class, perhaps one called target or label.

    Raises DataError.
    """
    return _composed(load(path)) if path.suffix.lower() == ".npz" else _read_csv(path)


def _composed(read: Predictions) -> Predictions:
    """With ids and classes as a CSV would give them."""
    ids, classes = (np.array([nfc(name.strip()) for name in names.tolist()]) for names in (read.ids, read.classes))
    return checked(ids, read.probs, classes, read.targets, read.groups, source=read.source)


def _read_csv(path: Path) -> Predictions:
    source = one_line(path)
    lines = [[nfc(cell.strip()) for cell in row.cells] for row in read_rows(path)[0]]
    header, rows = (lines[0], lines[1:]) if lines else ([], [])
    target_at = next((at for at, name in enumerate(header) if at and name.lower() in TARGET_COLUMNS), None)
    class_at = [at for at in range(1, len(header)) if at != target_at]
    if len(class_at) < 2 or not rows:
        raise DataError(f"{source}: a header with an id and a column for each class, and rows, expected")
    ragged = [row[0] for row in rows if len(row) != len(header)]
    if ragged:
        raise DataError(f"{source}: rows with other than {len(header)} cells: {first_few(ragged)}")
    classes = [header[at] for at in class_at]
    targets = None if target_at is None else _targets([row[target_at] for row in rows], classes, source)
    probs = _numbers([[row[at] for at in class_at] for row in rows], [row[0] for row in rows], source)
    return checked(np.array([row[0] for row in rows]), probs, np.array(classes), targets, source=source)


def _numbers(cells: list[list[str]], ids: list[str], source: str) -> Floats:
    try:
        wide = np.array(cells, dtype=np.float64)
    except ValueError as error:
        wrong = [one for one, row in zip(ids, cells, strict=True) if not all(map(_is_number, row))]
        raise DataError(f"{source}: not a number in the rows {first_few(wrong)}") from error
    narrow = wide.astype(np.float32)
    # probabilities that we once wrote come back as the very same numbers
    exact = np.abs(narrow.sum(axis=1, dtype=np.float64) - 1).max() <= 1e-6
    return narrow if exact else wide


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _targets(names: list[str], classes: Sequence[str], source: str) -> Ints:
    """Indices of class names; an empty cell is an unknown target."""
    index = {"": UNKNOWN, **{name: at for at, name in enumerate(classes)}}
    strange = sorted({name for name in names if name not in index})
    if strange:
        raise DataError(
            f"{source}: targets that are no class: {first_few(strange)}; one of {first_few(classes)} expected"
        )
    return np.array([index[name] for name in names], dtype=np.int64)


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
