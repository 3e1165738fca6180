"""Who may be told how runs go, and the tracker that tells nobody."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from ensemble.errors import EnsError
from ensemble.runs.history import Epoch
from ensemble.runs.run import Run

NEEDED = {"mlflow": "mlflow-skinny", "sqlalchemy": "sqlalchemy", "alembic": "alembic"}
"""The modules that `--track mlflow` imports, and the packages that have them."""


class Tracker(Protocol):
    """Told of runs while they are made. No method raises; none returns anything that a result could depend on."""

    def began(self, run_id: str, full_hash: str, kind: str, recipe: Mapping[str, Any]) -> None:
        """A run is trained from here, or goes on."""

    def epoch(self, done: int, row: Epoch) -> None:
        """Of the run that began last; `done` counts its epochs from 1 over all stages."""

    def stopped(self, failed: bool) -> None:
        """The run that began last was interrupted, or failed."""

    def finished(self, run: Run) -> None:
        """A run is complete, now or since long."""


class Nobody:
    """Is told everything and does nothing."""

    def began(self, run_id: str, full_hash: str, kind: str, recipe: Mapping[str, Any]) -> None:
        """Nothing."""

    def epoch(self, done: int, row: Epoch) -> None:
        """Nothing."""

    def stopped(self, failed: bool) -> None:
        """Nothing."""

    def finished(self, run: Run) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Tracking:
    """What a command line asked for, the same in every process.

    runs: the folder of runs, where the data base lies unless MLFLOW_TRACKING_URI names another.
    weights: whether weights are copied too.
    """

    runs: Path
    weights: bool = False

    def open(self, note: Callable[[str], None]) -> Tracker:
        """The tracker. note: told once, if it fails; from then on it is told nothing."""
        from ensemble.tracking.with_mlflow import MlflowTracker

        return MlflowTracker(self.runs, self.weights, note)


def tracking(runs: Path, weights: bool) -> Tracking:
    """`--track mlflow`. Raises EnsError that says what to install."""
    if not all(find_spec(module) for module in NEEDED):
        packages = " ".join(NEEDED.values())
        raise EnsError(f"--track mlflow needs the extra `mlflow`; type `python -m pip install {packages}`")
    return Tracking(runs.resolve(), weights)
