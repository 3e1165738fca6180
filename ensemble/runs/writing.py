"""Writing the files of a run that needs no training: an ensemble, an import, a student's labels."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ensemble.core.errors import RecipeError, one_line
from ensemble.core.files import read_json, sha256_file, write_atomically, write_json
from ensemble.core.predictions import Predictions, as_npz, npz_bytes
from ensemble.core.version import __version__
from ensemble.metrics import score
from ensemble.runs.run import SCHEMA, Run, locked

_FORBIDDEN = set('/\\:*?"<>|')


LONGEST = 200
"""Bytes of a run's name: file systems take 255, and the hash, a fold and names of temporary files come to it."""


def run_id(name: str, full_hash: str) -> str:
    """`<name>-<hash8>`. Raises RecipeError for a name that no file system would take."""
    if not name or name != name.strip() or name[0] in ".-" or set(name) & _FORBIDDEN or not name.isprintable():
        raise RecipeError(
            f"the name {one_line(name)!r} cannot name a folder; use one without slashes, colons, quotes"
            " or a leading dot or dash"
        )
    if len(name.encode()) > LONGEST:
        raise RecipeError(
            f"a name of {len(name.encode())} bytes found, at most {LONGEST} expected; use a shorter one"
        )
    return f"{name}-{full_hash[:8]}"


def versions() -> dict[str, str]:
    """What may change a number below the waterline."""
    return {"python": platform.python_version(), "ensemble": __version__, "numpy": np.__version__}


def parent_facts(run: Run) -> dict[str, Any]:
    """How a run names one that it was made from: its id and the sha256 of its predictions."""
    return {"id": run.id, "sha256": {split: sha256_file(run.path / f"{split}.npz") for split in run.splits()}}


def arrays_content(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """An npz of plain arrays, whose bytes repeat exactly."""
    return npz_bytes(arrays)


def split_metrics(predictions: Predictions) -> dict[str, Any]:
    """`{n, metric: value}` of the rows with a target; empty where there is none."""
    if predictions.targets is None:
        return {}
    # in the order of the ids, so that another order of the rows adds up to the same digits
    order = np.argsort(predictions.ids, kind="stable")
    known = order[predictions.labelled[order]]
    return {"n": len(known), **score(predictions.probs[known], predictions.targets[known])}


def write_run(
    path: Path,
    facts: Mapping[str, Any],
    *,
    predictions: Mapping[str, Predictions],
    files: Mapping[str, bytes | str] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Run:
    """Write a whole run under its lock: run.json, `files`, an npz for each split, metrics.json last.

    facts: run.json without `schema`, `created` and `versions`.  metrics: entries of metrics.json beside the
    scores of the splits. Made again from the same input, the run keeps its `created` and every byte but the
    time `combined` of an ensemble; a test split that is no longer among `predictions` goes.
    """
    contents = {
        **{name: text.encode() if isinstance(text, str) else text for name, text in (files or {}).items()},
        **{f"{split}.npz": as_npz(one) for split, one in predictions.items()},
    }
    with locked(path.parent, path.name):
        whole = {"schema": SCHEMA, **facts, **_first_made(path)}
        gone = [old for old in path.glob("test*.npz") if old.name not in contents]
        if (path / "metrics.json").is_file() and (gone or _differs(path, whole, contents)):
            (path / "metrics.json").unlink()  # a kill from here on leaves a run that is not complete
        for old in gone:
            old.unlink()
        write_json(path / "run.json", whole)
        for name, content in contents.items():
            write_atomically(path / name, content)
        scores = {split: split_metrics(one) for split, one in predictions.items()}
        kept = {split: values for split, values in scores.items() if values}
        write_json(path / "metrics.json", {"schema": SCHEMA, **kept, **(metrics or {})})
    return Run(path)


def _differs(path: Path, facts: Mapping[str, Any], contents: Mapping[str, bytes]) -> bool:
    """Whether the complete run at `path` holds anything else."""
    there = [path / name for name in contents]
    return (
        not all(file.is_file() for file in there)
        or any(file.read_bytes() != content for file, content in zip(there, contents.values(), strict=True))
        or _untimed(read_json(path / "run.json")) != _untimed(json.loads(json.dumps(facts)))
    )


def _untimed(facts: Any) -> Any:
    return {key: value for key, value in facts.items() if key != "combined"} if isinstance(facts, dict) else facts


def _first_made(path: Path) -> dict[str, Any]:
    if (path / "metrics.json").is_file():
        facts = read_json(path / "run.json")
        return {key: facts[key] for key in ("created", "versions") if key in facts}
    return {"created": now(), "versions": versions()}


def now() -> str:
    """The time as runs keep it: to the microsecond, so that the newest of two made in one second is known."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


def mark_chosen(run: Run, why: str) -> None:
    """Add `why` to what of a complete run was chosen on the validation rows, under its lock."""
    with locked(run.path.parent, run.id):
        facts = read_json(run.path / "run.json")
        known = facts.get("chosen_on_valid") or []
        if why not in known:
            write_json(run.path / "run.json", {**facts, "chosen_on_valid": [*known, why]})


def total(values: Sequence[float | None]) -> float | None:
    """The sum of costs; None when one of them is not known."""
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None
