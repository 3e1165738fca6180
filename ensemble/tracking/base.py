"""The tracker interface, and a run's parameters, scores and files as trackers take them."""

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
    """Told of runs while they are made. No method raises or returns anything."""

    def began(self, run_id: str, full_hash: str, kind: str, recipe: Mapping[str, Any]) -> None:
        """The training of a run begins or is resumed."""

    def epoch(self, done: int, row: Epoch) -> None:
        """An epoch of the run that began last; `done` counts its epochs from 1 over all stages."""

    def stopped(self, failed: bool) -> None:
        """The run that began last was interrupted, or failed."""

    def finished(self, run: Run) -> None:
        """A run is complete, from now on or already before."""


class NullTracker:
    """A tracker that does nothing."""

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
"""Files of a run that are small and hold no predictions of images."""


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings, with names such as `data.path`; a list is one leaf."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def allowed(name: str) -> str:
    """`name` with underscores in place of characters that trackers refuse; class names may hold any."""
    return re.sub(r"[^\w.\- ]", "_", name)


def parameters(run: Run) -> Mapping[str, Any]:
    """Parameters of a complete run: its recipe, an ensemble's rule and members, or an import's architecture."""
    for name in ("recipe.yaml", "ensemble.yaml"):
        if (run.path / name).is_file():
            content = text.read(run.path / name)
            return dict(content) if isinstance(content, Mapping) else {}
    return {"arch": run.arch}


def scores(run: Run) -> dict[str, float]:
    """The finite numbers of metrics.json and the costs of run.json: `valid.accuracy`, `honest.accuracy.low`."""
    costs = {key: run.facts.get(key) for key in ("parameters", "bytes", "seconds", "seconds_per_image")}
    values: dict[str, float] = {}
    for name, value in flat({**run.metrics, "cost": costs}):
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            values[_unused(allowed(name), values)] = float(value)
    values.pop("schema", None)
    return values


def _unused(name: str, taken: Mapping[str, float]) -> str:
    """`name`, with a number where two names became equal through `allowed`."""
    count = 2
    unused = name
    while unused in taken:
        unused, count = f"{name}_{count}", count + 1
    return unused


def artifacts(run: Run, weights: bool) -> list[tuple[Path, str | None]]:
    """The files of a complete run, and the folder that each goes to."""
    plain = [run.path / name for name in (*FILES, *(["weights.safetensors"] if weights else []))]
    pictures = sorted(path for path in run.path.rglob("*") if path.suffix in (".png", ".html"))
    files: list[tuple[Path, str | None]] = [(path, None) for path in plain if path.is_file()]
    for path in pictures:
        inside = path.parent.relative_to(run.path).as_posix()
        files.append((path, None if inside == "." else inside))
    return files
