"""Write the predictions of a run as a submission file with a JSON sidecar, validated before writing."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemble.combine.record import combine_command, other_test, read_ensemble
from ensemble.core.errors import DataError, RecipeError, first_few, one_line
from ensemble.core.files import sha256_file, write_atomically, write_json
from ensemble.core.names import natural_key
from ensemble.core.predictions import Predictions
from ensemble.runs.origin import run_command
from ensemble.runs.record import Kind
from ensemble.runs.run import Run
from ensemble.runs.stale import compared
from ensemble.submit.columns import answer_columns, label_notes, spelling_notes
from ensemble.submit.formats import Format, Sheet, Spec, formats, missing_notes, zipped
from ensemble.submit.template import Fill, Template, fill_of, filled, read_template, unpredicted
from ensemble.submit.template import fill as filled_in

if TYPE_CHECKING:
    from ensemble.recipe.data_spec import DataSpec

FOLDER = Path("submissions")


@dataclass(frozen=True)
class Submission:
    """A written submission file. facts: content of the sidecar.  notes: remarks for the user."""

    path: Path
    sidecar: Path
    facts: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def submit(
    run: Run,
    spec: Spec,
    *,
    out: Path | None = None,
    sample: Path | None = None,
    split: str = "test",
    unnamed: str | None = None,
    fill: str | None = None,
    data: DataSpec | None = None,
) -> Submission:
    """Write the predictions of `split` by `run` in the format of `spec`, and the sidecar `<out>.json`.

    out: by default submissions/<run id>.<csv or zip>.  sample: a sample submission used as template.  unnamed: the
    class for which a sample may have no column.  fill: value of rows without predictions, as for `fill_of`.
    data: the location of the images; predictions of other images than those on disk are refused.
    Raises DataError or RecipeError before anything is written.
    """
    form = formats.get(spec.format)
    predicted = _predictions(run, split)
    compared_note, unread = _compare(run, split, data)
    template = None if sample is None else read_template(sample, spec, predicted.classes)
    missing = unread if template is None else unpredicted(template, predicted.ids)
    filling = None if fill is None else fill_of(fill, run, predicted)
    predictions = _ordered(predicted if filling is None else filled(predicted, missing, filling), spec)
    if sample is not None and out is not None and out.exists() and out.samefile(sample):
        raise RecipeError(f"--out {one_line(out)} is the sample itself; name another file")
    path = _path(run, split, out, as_zip=form.zipped or spec.zip)
    sheet, notes = _sheet(form, predictions, spec, template, unnamed)
    check(sheet, len(predictions))
    content = sheet.csv()
    if path.suffix.lower() == ".zip":
        content = zipped(content, spec.inner_name if form.zipped else path.with_suffix(".csv").name)
    facts = _facts(run, split, form, sheet, path, content, sample)
    if filling is not None and missing:
        facts["filled"] = filling.facts(missing)
    write_atomically(path, content)
    if template is None:
        notes = (*notes, *spelling_notes(predictions.ids.tolist(), spec, split, data))
    notes = (*compared_note, *notes, *missing_notes(sheet), *_missing_notes(missing, filling, fill))
    return Submission(path, write_json(path.with_name(f"{path.name}.json"), facts), facts, notes)


def _predictions(run: Run, split: str) -> Predictions:
    if not run.has(split):
        splits = [name for name in run.splits() if name != "valid"]
        raise DataError(
            f"{run.id} has no predictions of {split!r} (there are: {first_few(splits) or 'none'});"
            " give the recipe a test split and type `ens train` and `ens combine` again"
        )
    _refuse_stale(run, split)
    predictions = run.predictions(split)
    if not len(predictions):
        raise DataError(f"{run.id}/{split}.npz has no rows; at least one item to submit expected")
    return predictions


def _missing_notes(missing: list[str], filling: Fill | None, requested_fill: str | None) -> tuple[str, ...]:
    """Notes on the rows without predictions."""
    if not missing:
        return () if requested_fill is None else ("--fill: no row is missing",)
    count, names = f"{len(missing)} test image{'s' if missing[1:] else ''}", first_few(missing)
    if filling is None:
        return (
            f"{count} could not be read and so no row is written for: {names}; --fill uniform, prior or a class",
        )
    shares = f", the shares in {filling.source}" if filling.source else ""
    return (f"{count} not predicted, filled with {filling.choice}{shares}: {names}",)


def _compare(run: Run, split: str, data: DataSpec | None) -> tuple[tuple[str, ...], list[str]]:
    """Notes on why no comparison was possible, and the ids of unreadable images.

    Raises MismatchedRuns if the test images on disk are not those that `run` has predicted.
    """
    comparison = compared([run], data, run.path.parent, split)
    if comparison.changed and data is not None:
        raise other_test(run, comparison.changed[0], data)
    return ((comparison.note,) if comparison.note else ()), list(comparison.unread.get(split, ()))


def _refuse_stale(run: Run, split: str) -> None:
    """Raises DataError if the predictions that `run` was made from have changed; deleted ones are ignored."""
    if run.kind not in (Kind.ENSEMBLE, Kind.FOLDS):
        return
    sources = read_ensemble(run).sources if run.is_ensemble else None
    changed = []
    for parent in run.record.parents:
        path = run.path.parent / parent.id / f"{split}.npz"
        recorded = parent.sha256.get(split)
        if (sources is None or parent.id in sources) and path.is_file() and sha256_file(path) != recorded:
            changed.append(parent.id)
    if changed:
        command = combine_command(run) if run.is_ensemble else run_command(run, run.path.parent) or "ens train"
        raise DataError(f"{run.id} was made from other predictions of {first_few(changed)}; type `{command}`")


def _ordered(predictions: Predictions, spec: Spec) -> Predictions:
    if spec.order != "natural":
        return predictions
    ids = predictions.ids.tolist()
    rows = np.array(sorted(range(len(ids)), key=lambda row: natural_key(ids[row])), dtype=np.int64)
    return replace(predictions, ids=predictions.ids[rows], probs=predictions.probs[rows])


def _path(run: Run, split: str, out: Path | None, *, as_zip: bool) -> Path:
    """Path of the submission file. Raises RecipeError for a zip without suffix .zip or a file of other origin."""
    if out is None:
        name = run.id if split == "test" else f"{run.id}-{split}"
        return FOLDER / f"{name}.{'zip' if as_zip else 'csv'}"
    if as_zip and out.suffix.lower() != ".zip":
        raise RecipeError(f"--out {one_line(out)} found, a name that ends in .zip expected for a zip")
    if out.is_dir():
        raise RecipeError(f"--out {one_line(out)} is a folder, a file expected")
    if out.exists() and not out.with_name(f"{out.name}.json").is_file():
        raise RecipeError(
            f"--out {one_line(out)} is there and was not written by `ens submit` ({out.name}.json is missing);"
            " name another file, or delete it"
        )
    return out


def _sheet(
    form: Format, predictions: Predictions, spec: Spec, template: Template | None, unnamed: str | None
) -> tuple[Sheet, tuple[str, ...]]:
    """The table to write, and notes on the sample."""
    if template is None:
        unused = spec.positive is not None and not form.probabilities(spec)
        note = f"--positive has no part in {form.name}, which holds labels; type --format kaggle-probs"
        return form.build(predictions, spec), (note,) if unused else ()
    classes, probabilities = predictions.classes.tolist(), form.probabilities(spec)
    sheet = filled_in(template, predictions, spec, probabilities=probabilities, unnamed=unnamed)
    answer = answer_columns(template, classes, spec, probabilities=probabilities, unnamed=unnamed)
    return sheet, (*([answer.note] if answer.note else []), *label_notes(template, answer, classes, spec))


def check(sheet: Sheet, n: int) -> None:
    """Raises DataError unless there are n rows of the header's length, no duplicate columns and no empty cells."""
    duplicates = [name for name, count in Counter(sheet.header).items() if count > 1]
    if duplicates:
        raise DataError(
            f"two columns are called {first_few(duplicates)}; set id_column or label_column under `submit:`"
        )
    if len(sheet.rows) != n:
        raise DataError(f"the submission has {len(sheet.rows)} rows, {n} were predicted")
    bad_rows = [row[0] for row in sheet.rows if len(row) != len(sheet.header) or not all(row)]
    if bad_rows:
        raise DataError(f"rows with an empty cell or the wrong number of cells: {first_few(bad_rows)}")


def _facts(
    run: Run, split: str, form: Format, sheet: Sheet, path: Path, content: bytes, sample: Path | None
) -> dict[str, Any]:
    facts = {
        "schema": 1,
        "file": path.name,
        "format": form.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "rows": len(sheet.rows),
        "columns": list(sheet.header),
        "run": run.id,
        "kind": run.kind,
        "split": split,
        "sample": None if sample is None else {"file": sample.name, "sha256": sha256_file(sample)},
        **_source(run),
        "data": run.record.data.values,
        "chosen_on_valid": list(run.record.chosen_on_valid),
        "created": run.record.created or None,
        "versions": run.record.versions,
    }
    return {key: value for key, value in facts.items() if value is not None}


def _source(run: Run) -> dict[str, Any]:
    """Origin of the predictions for the sidecar: the members with their weights, and the expected score."""
    metrics = run.metrics
    if not run.is_ensemble:
        return {"valid": metrics.get("valid")}
    ensemble = read_ensemble(run)
    weights = ensemble.weights or (None,) * len(ensemble.members)
    rows = zip(ensemble.members, ensemble.sources, ensemble.archs, weights, strict=True)
    members = [
        {"id": member, **({"refit": source} if source != member else {}), "arch": arch, "weight": weight}
        for member, source, arch, weight in rows
    ]
    return {
        "rule": ensemble.rule,
        "threshold": ensemble.threshold,
        "calibration": None if ensemble.temperature is None else {"temperature": ensemble.temperature},
        "members": members,
        "honest": metrics.get("honest"),
        "score_of": metrics.get("score_of"),
    }
