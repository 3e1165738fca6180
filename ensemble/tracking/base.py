"""The tracker interface, and a run's parameters, scores and files in the form that trackers accept."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from ensemble.recipe import text
from ensemble.runs.history import Epoch
from ensemble.runs.run import Run


class Tracker(Protocol):
    """Protocol of a tracker, notified of runs while they are made. No method raises or returns anything."""

    def began(self, run_id: str, full_hash: str, kind: str, recipe: Mapping[str, Any]) -> None:
        """Called when the training of a run begins or is resumed."""

    def epoch(self, done: int, row: Epoch) -> None:
        """Called after an epoch of the run that began last; `done` counts epochs from 1 over all stages."""

    def stopped(self, failed: bool) -> None:
        """Called when the run that began last is interrupted or fails."""

    def finished(self, run: Run) -> None:
        """Called for a complete run, whether just completed or complete before."""


class NullTracker:
    """A tracker that ignores all calls."""

    def began(self, run_id: str, full_hash: str, kind: str, recipe: Mapping[str, Any]) -> None:
        """Nothing."""

    def epoch(self, done: int, row: Epoch) -> None:
        """Nothing."""

    def stopped(self, failed: bool) -> None:
        """Nothing."""

    def finished(self, run: Run) -> None:
        """Nothing."""


FILES = (
    "recipe.yaml",
    "run.json",
    "metrics.json",
    "history.csv",
    "lr_find.csv",
    "report.json",
    "distilled.json",
    "ensemble.yaml",
    "ensemble.npz",
)
"""Files of a run that are small and hold no predictions of images, copied by default."""


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted name, value) of the leaves of nested mappings, e.g. `data.path`; a list is a leaf."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def allowed(name: str) -> str:
    """`name` with underscores for the characters that trackers refuse, which class names may contain."""
    return re.sub(r"[^\w.\- ]", "_", name)


def parameters(run: Run) -> Mapping[str, Any]:
    """Parameters of a complete run: the recipe, an ensemble's rule and members, or an import's architecture."""
    for name in ("recipe.yaml", "ensemble.yaml"):
        if (run.path / name).is_file():
            content = text.read(run.path / name)
            return dict(content) if isinstance(content, Mapping) else {}
    return {"arch": run.arch}


def scores(run: Run) -> dict[str, float]:
    """Finite numbers of metrics.json and costs of run.json, by dotted names such as `honest.accuracy.low`."""
    values: dict[str, float] = {}
    for name, value in flat({**run.metrics, "cost": run.record.costs}):
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            values[_unused(allowed(name), values)] = float(value)
    values.pop("schema", None)
    return values


def _unused(name: str, taken: Mapping[str, float]) -> str:
    """`name`, with a number appended if `taken` contains it already."""
    count = 2
    unused = name
    while unused in taken:
        unused, count = f"{name}_{count}", count + 1
    return unused


def artifacts(run: Run, weights: bool) -> list[tuple[Path, str | None]]:
    """Files of a complete run, each with its destination folder in the tracker, None for the root."""
    paths = [run.path / name for name in (*FILES, *(["weights.safetensors"] if weights else []))]
    pictures = sorted(path for path in run.path.rglob("*") if path.suffix in (".png", ".html"))
    files: list[tuple[Path, str | None]] = [(path, None) for path in paths if path.is_file()]
    for path in pictures:
        folder = path.parent.relative_to(run.path).as_posix()
        files.append((path, None if folder == "." else folder))
    return files
