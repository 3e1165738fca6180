"""A run as a tracker takes it: flat parameters, numbers by name, files."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ensemble.recipe import text
from ensemble.runs.run import Run

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
"""Of a run's directory, what is small and is no prediction of anybody's images."""


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings, with names such as `data.path`; a list is one leaf."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def allowed(name: str) -> str:
    """`name` with underscores for what no tracker takes: classes may be called anything."""
    return re.sub(r"[^\w.\- ]", "_", name)


def parameters(run: Run) -> Mapping[str, Any]:
    """What decided a complete run: its recipe, an ensemble's rule and members; of an import its architecture."""
    for name in ("recipe.yaml", "ensemble.yaml"):
        if (run.path / name).is_file():
            found = text.read(run.path / name)
            return dict(found) if isinstance(found, Mapping) else {}
    return {"arch": run.arch}


def scores(run: Run) -> dict[str, float]:
    """The finite numbers of metrics.json and the costs of run.json: `valid.accuracy`, `honest.accuracy.low`."""
    costs = {key: run.facts.get(key) for key in ("parameters", "bytes", "seconds", "seconds_per_image")}
    found: dict[str, float] = {}
    for name, value in flat({**run.metrics, "cost": costs}):
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            found[_unused(allowed(name), found)] = float(value)
    found.pop("schema", None)
    return found


def _unused(name: str, taken: Mapping[str, float]) -> str:
    """Two classes may be called the same but for what a name may not hold."""
    count = 2
    found = name
    while found in taken:
        found, count = f"{name}_{count}", count + 1
    return found


def artifacts(run: Run, weights: bool) -> list[tuple[Path, str | None]]:
    """The files of a complete run, and the folder that each goes to."""
    plain = [run.path / name for name in (*FILES, *(["weights.safetensors"] if weights else []))]
    pictures = sorted(path for path in run.path.rglob("*") if path.suffix in (".png", ".html"))
    found: list[tuple[Path, str | None]] = [(path, None) for path in plain if path.is_file()]
    for path in pictures:
        inside = path.parent.relative_to(run.path).as_posix()
        found.append((path, None if inside == "." else inside))
    return found
