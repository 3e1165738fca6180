"""Predictions made elsewhere become a run, so that they can be combined with ours."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ensemble.data.names import nfc
from ensemble.errors import DataError, MismatchedRuns, first_few, one_line
from ensemble.files import sha256_json
from ensemble.predictions import UNKNOWN, Floats, Ints, Predictions, Texts, align, checked, load
from ensemble.runs.run import Run, all_runs
from ensemble.runs.writing import run_id, write_run

TARGET_COLUMNS = ("target", "label")
_PIPELINE = 1


@dataclass(frozen=True)
class Imported:
    """The run, and the run that its targets or data set were taken from, if any."""

    run: Run
    matched: Run | None
    labelled: bool


def import_run(
    name: str,
    *,
    folder: Path,
    valid: Path,
    test: Path | None = None,
    arch: str | None = None,
    targets_from: Run | None = None,
    fingerprint: str = "",
) -> Imported:
    """Make the run `folder/<name>-<hash8>` of kind `import` from a CSV or an npz for each split.

    Targets that the file lacks, the order of classes, groups and the data set come from `targets_from`, else
    from a complete run with the same validation ids and classes, of the data set `fingerprint` before others.
    arch: the architecture that it counts as; without one it is its own. Raises DataError or MismatchedRuns.
    """
    ours = read_predictions(valid)
    matched = targets_from or _match(ours, all_runs(folder), fingerprint)
    if matched is not None:
        ours = _like(ours, matched)
    splits = {"valid": ours}
    if test is not None:
        splits["test"] = align_classes(read_predictions(test), ours.classes)
    digest = sha256_json(
        {"pipeline": _PIPELINE, "kind": "import", "arch": arch, "valid": _fingerprint(ours, whole=True)}
    )
    facts = {
        "kind": "import",
        "name": name,
        "hash": digest,
        "pipeline": _PIPELINE,
        "parents": [],
        "arch": arch,
        "fold": None,
        "data": _data(ours, matched, "test" in splits),
        "classes": ours.classes.tolist(),
        "imported": {split: path.name for split, path in (("valid", valid), ("test", test)) if path},
        "chosen_on_valid": [],
    }
    run = write_run(folder / run_id(name, digest), facts, predictions=splits)
    return Imported(run, matched, ours.targets is not None)


def read_predictions(path: Path) -> Predictions:
    """Predictions from an npz, or a CSV: ids first, a column a class, perhaps one called target or label.

    Raises DataError.
    """
    return load(path) if path.suffix.lower() == ".npz" else _read_csv(path)


def _read_csv(path: Path) -> Predictions:
    source = one_line(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {source}: {one_line(error)}") from error
    lines = [[nfc(cell) for cell in row] for row in csv.reader(io.StringIO(text, newline="")) if row]
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
        return np.array(cells, dtype=np.float64)
    except ValueError as error:
        wrong = [one for one, row in zip(ids, cells, strict=True) if not all(map(_is_number, row))]
        raise DataError(f"{source}: not a number in the rows {first_few(wrong)}") from error


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


def align_classes(predictions: Predictions, classes: Texts) -> Predictions:
    """The same rows with columns in the order of `classes`. Raises MismatchedRuns."""
    return align(predictions, predictions.ids, classes)


def _match(ours: Predictions, runs: Sequence[Run], fingerprint: str) -> Run | None:
    """A complete run with the same validation ids and classes: with targets first, of this data set first."""
    ids, classes = set(ours.ids.tolist()), set(ours.classes.tolist())
    found = []
    for run in runs:
        if run.complete and not run.failed and run.has("valid") and run.kind != "ensemble":
            theirs = run.predictions("valid")
            if set(theirs.ids.tolist()) == ids and set(theirs.classes.tolist()) == classes:
                found.append((theirs.targets is None, run.fingerprint != fingerprint, run.id, run))
    return min(found, key=lambda entry: entry[:3])[3] if found else None


def _like(ours: Predictions, run: Run) -> Predictions:
    """`ours` in the run's order of classes and ids, with its targets and groups. Raises MismatchedRuns."""
    theirs = run.predictions("valid")
    ours = align(ours, theirs.ids, theirs.classes)
    if ours.targets is None or theirs.targets is None:
        targets = theirs.targets if ours.targets is None else ours.targets
        return replace(ours, targets=targets, groups=theirs.groups if ours.groups is None else ours.groups)
    clash = (ours.targets != theirs.targets) & ours.labelled & theirs.labelled
    if clash.any():
        raise MismatchedRuns(
            f"{ours.source} and {theirs.source} have other targets for {clash.sum()} items:"
            f" {first_few(ours.ids[clash])}; import the predictions of one data set"
        )
    return replace(
        ours,
        targets=np.where(ours.labelled, ours.targets, theirs.targets),
        groups=theirs.groups if ours.groups is None else ours.groups,
    )


def _data(ours: Predictions, matched: Run | None, with_test: bool) -> dict[str, object]:
    if matched is None:
        return {"form": "import", "fingerprint": _fingerprint(ours), "tests": {}}
    data = matched.facts.get("data", {})
    known = data.get("tests", {})
    tests = {"test": known["test"]} if with_test and "test" in known else {}
    return {"form": data.get("form"), "fingerprint": matched.fingerprint, "tests": tests}


def _fingerprint(ours: Predictions, *, whole: bool = False) -> str:
    """The sha256 of ids and classes whatever their order; `whole`: of the probabilities too."""
    rows, columns = np.argsort(ours.ids), np.argsort(ours.classes)
    digest = hashlib.sha256(
        "\0".join([*ours.ids[rows].tolist(), "", *ours.classes[columns].tolist()]).encode()
    )
    if whole:
        digest.update(np.ascontiguousarray(ours.probs[rows][:, columns], dtype="<f4").tobytes())
    return digest.hexdigest()
