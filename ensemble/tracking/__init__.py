"""Experiment trackers, which are notified of runs while they are made. Their errors never affect a run.

A tracker is one decorated function:

>>> @tracker("mlflow", needs={"mlflow": "mlflow-skinny"})
... def open_mlflow(runs: Path, weights: bool, note: Callable[[str], None]) -> Tracker: ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from ensemble.core.errors import EnsError
from ensemble.core.registry import Registry
from ensemble.tracking.base import NullTracker, Tracker

__all__ = ["NullTracker", "Tracker", "TrackerKind", "Tracking", "tracker", "trackers", "tracking"]

Open = Callable[[Path, bool, Callable[[str], None]], Tracker]


@dataclass(frozen=True)
class TrackerKind:
    """A registered tracker.

    open: (folder of runs, whether to copy weights, callback for the message of the first error) -> the tracker.
    needs: modules that it imports -> packages that provide them.
    """

    name: str
    open: Open
    needs: Mapping[str, str] = field(default_factory=dict)


trackers: Registry[TrackerKind] = Registry("tracker")


def tracker(name: str, needs: Mapping[str, str] | None = None) -> Callable[[Open], Open]:
    """Decorator that registers a function that opens a tracker; the arguments are those of TrackerKind."""

    def add(function: Open) -> Open:
        trackers.register(name)(TrackerKind(name, function, needs or {}))
        return function

    return add


@tracker("mlflow", needs={"mlflow": "mlflow-skinny", "sqlalchemy": "sqlalchemy", "alembic": "alembic"})
def open_mlflow(runs: Path, weights: bool, note: Callable[[str], None]) -> Tracker:
    """MLflow at MLFLOW_TRACKING_URI, else in <runs>/mlflow.db."""
    from ensemble.tracking.mlflow import MlflowTracker

    return MlflowTracker(runs, weights, note)


@dataclass(frozen=True)
class Tracking:
    """The tracker requested by a command; picklable, so that every process can open it.

    name: of the tracker.  runs: the folder of runs.  weights: whether to copy weights.
    """

    name: str
    runs: Path
    weights: bool = False

    def open(self, note: Callable[[str], None]) -> Tracker:
        """Open the tracker. note: called with the message of its first error, after which it ignores all calls."""
        return trackers.get(self.name).open(self.runs, self.weights, note)


def tracking(name: str, runs: Path, weights: bool) -> Tracking:
    """The Tracking of `--track NAME`. Raises RecipeError for an unknown tracker, EnsError for missing packages."""
    needs = trackers.get(name).needs
    if not all(find_spec(module) for module in needs):
        packages = " ".join(needs.values())
        raise EnsError(f"--track {name} needs the extra `{name}`; type `python -m pip install {packages}`")
    return Tracking(name, runs.resolve(), weights)
