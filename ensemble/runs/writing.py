"""Write the files of a run that needs no training: an ensemble, an import, a student's labels."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ensemble.core import __version__
from ensemble.core.errors import RecipeError, one_line
from ensemble.core.files import read_json, sha256_file, write_atomically, write_json
from ensemble.core.predictions import Predictions, as_npz, npz_bytes
from ensemble.metrics import score
from ensemble.runs.record import SCHEMA, RunRecord
from ensemble.runs.run import Run, locked

_FORBIDDEN = set('/\\:*?"<>|')


MAX_NAME_BYTES = 200
"""Bytes of a run's name: file systems allow 255, which include the hash, the fold and temporary suffixes."""


def run_id(name: str, full_hash: str) -> str:
    """`<name>-<hash8>`. Raises RecipeError for a name that is not portable as a folder name."""
    if not name or name != name.strip() or name[0] in ".-" or set(name) & _FORBIDDEN or not name.isprintable():
        raise RecipeError(
            f"the name {one_line(name)!r} cannot name a folder; use one without slashes, colons, quotes"
            " or a leading dot or dash"
        )
    if len(name.encode()) > MAX_NAME_BYTES:
        raise RecipeError(
            f"a name of {len(name.encode())} bytes found, at most {MAX_NAME_BYTES} expected; use a shorter one"
        )
    return f"{name}-{full_hash[:8]}"


def versions() -> dict[str, str]:
    """Versions of the software that may affect results."""
    return {"python": platform.python_version(), "ensemble": __version__, "numpy": np.__version__}


def parent_facts(run: Run) -> dict[str, Any]:
    """The entry of `run` among the `parents` in run.json: its id and the sha256 of its predictions by split."""
    return {"id": run.id, "sha256": {split: sha256_file(run.path / f"{split}.npz") for split in run.splits()}}


def arrays_content(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Reproducible bytes of an npz of plain arrays."""
    return npz_bytes(arrays)


def split_metrics(predictions: Predictions) -> dict[str, Any]:
    """`{n, metric: value}` on the rows with a target; empty without targets."""
    if predictions.targets is None:
        return {}
    # in the order of ids, so that sums do not depend on the order of rows
    order = np.argsort(predictions.ids, kind="stable")
    rows = order[predictions.labelled[order]]
    return {"n": len(rows), **score(predictions.probs[rows], predictions.targets[rows])}


def write_run(
    path: Path,
    facts: Mapping[str, Any],
    *,
    predictions: Mapping[str, Predictions],
    files: Mapping[str, bytes | str] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Run:
    """Write a complete run under its lock: run.json, `files`, an npz for each split, metrics.json last.

    facts: run.json without `schema`, `created` and `versions`.  metrics: entries of metrics.json beside the
    scores of the splits. Written again from the same input, the run keeps `created` and every byte, except the
    time `combined` of an ensemble. Test splits that are not in `predictions` are deleted.
    """
    contents = {
        **{name: text.encode() if isinstance(text, str) else text for name, text in (files or {}).items()},
        **{f"{split}.npz": as_npz(split_predictions) for split, split_predictions in predictions.items()},
    }
    with locked(path.parent, path.name):
        record = RunRecord({"schema": SCHEMA, **facts, **_creation(path)})
        stale_files = [file for file in path.glob("test*.npz") if file.name not in contents]
        if (path / "metrics.json").is_file() and (stale_files or _differs(path, record, contents)):
            (path / "metrics.json").unlink()  # if killed after this, the run is incomplete rather than inconsistent
        for file in stale_files:
            file.unlink()
        record.write(path)
        for name, content in contents.items():
            write_atomically(path / name, content)
        scores = {split: split_metrics(split_predictions) for split, split_predictions in predictions.items()}
        split_scores = {split: values for split, values in scores.items() if values}
        write_json(path / "metrics.json", {"schema": SCHEMA, **split_scores, **(metrics or {})})
    return Run(path)


def _differs(path: Path, record: RunRecord, contents: Mapping[str, bytes]) -> bool:
    """Whether the complete run at `path` has another record, but for the time of combining, or other contents."""
    paths = [path / name for name in contents]
    return (
        not all(file.is_file() for file in paths)
        or any(file.read_bytes() != content for file, content in zip(paths, contents.values(), strict=True))
        or _stored(path).without("combined").values
        != json.loads(json.dumps(dict(record.without("combined").values)))
    )


def _stored(path: Path) -> RunRecord:
    """run.json of a run that is replaced, so that it need not be valid."""
    values = read_json(path / "run.json")
    return RunRecord(values if isinstance(values, dict) else {})


def _creation(path: Path) -> dict[str, Any]:
    if (path / "metrics.json").is_file():
        values = _stored(path).values
        return {key: values[key] for key in ("created", "versions") if key in values}
    return {"created": now(), "versions": versions()}


def now() -> str:
    """The current UTC time in ISO format, in microseconds, so that runs made within one second are ordered."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


def mark_chosen(run: Run, choice: str) -> None:
    """Add `choice` to `chosen_on_valid` of a complete run, under its lock."""
    with locked(run.path.parent, run.id):
        record = RunRecord.read(run.path)
        if choice not in record.chosen_on_valid:
            record.updated(chosen_on_valid=[*record.chosen_on_valid, choice]).write(run.path)


def total(values: Sequence[float | None]) -> float | None:
    """The sum of costs; None if any is unknown or there are none."""
    known_values = [value for value in values if value is not None]
    return sum(known_values) if known_values and len(known_values) == len(values) else None
