"""Runs in MLflow: one MLflow run for each of ours, found again by its hash."""

from __future__ import annotations

import json
import logging
import os
import random
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemble.core.errors import one_line
from ensemble.core.files import sha256_file, sha256_json
from ensemble.runs.history import Epoch, history
from ensemble.runs.run import Run
from ensemble.tracking.base import allowed, artifacts, flat, parameters, scores

if TYPE_CHECKING:
    from mlflow import MlflowClient


EXPERIMENT = "ensemble"
STEPS = "train_loss"
"""The metric whose steps tell which epochs MLflow knows."""
LONGEST, BATCH = 6000, 100
"""Characters of a parameter and parameters of one request that MLflow takes."""

_QUIET = {
    # a server that does not answer must not hold up a training: seven tries take minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # nothing is sent to anybody who was not named
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


def _safely(method: Callable[..., None]) -> Callable[..., None]:
    """`method` of a tracker, which raises nothing and leaves the generators of random numbers as they were."""

    @wraps(method)
    def told(self: MlflowTracker, *args: Any) -> None:
        if not self.works:
            return
        # what waits before it asks a server again waits for a random time
        states = random.getstate(), np.random.get_state()  # noqa: NPY002
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what its own packages are about to drop
                method(self, *args)
        except Exception as error:
            self.works = False
            self.note(f"tracking stops, the work goes on: {type(error).__name__}: {one_line(error)[:300]}")
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002

    return told


class MlflowTracker:
    """Tells MLflow: MLFLOW_TRACKING_URI, else `<runs>/mlflow.db` with the artefacts beside it.

    The first error is said once, and ends the telling: a run on disk is worth more than its copy.
    """

    client: MlflowClient

    def __init__(self, runs: Path, weights: bool, note: Callable[[str], None]) -> None:
        self.runs, self.weights, self.note = runs, weights, note
        self.works = True
        self.experiment = self.current = ""
        self.steps: set[int] = set()
        self._connect()

    @_safely
    def began(self, run_id: str, full_hash: str, kind: str, recipe: Mapping[str, Any]) -> None:
        """Begin the MLflow run of this hash, or go on with it."""
        self.current = ""
        self.current = self._found(full_hash) or self._created(run_id, full_hash, kind)
        self.client.update_run(self.current, status="RUNNING")
        self._tell_parameters(recipe)
        self.steps = {one.step for one in self.client.get_metric_history(self.current, STEPS)}

    @_safely
    def epoch(self, done: int, row: Epoch) -> None:
        """The numbers of an epoch, at step `done`."""
        if self.current:
            self._tell_epoch(done, row)

    @_safely
    def stopped(self, failed: bool) -> None:
        """FAILED, or KILLED until it goes on."""
        if self.current:
            self.client.set_terminated(self.current, "FAILED" if failed else "KILLED")
        self.current = ""

    @_safely
    def finished(self, run: Run) -> None:
        """Everything of a complete run that MLflow does not know; nothing where it knows all."""
        full_hash = str(run.facts.get("hash", run.id))
        self.current = self._found(full_hash) or self._created(run.id, full_hash, run.kind)
        content = _content(run, self.weights)
        if self.client.get_run(self.current).data.tags.get("ens.content") != content:
            self._tell(run)
            self.client.set_tag(self.current, "ens.content", content)
            self.client.set_terminated(self.current, "FINISHED")
        self.current = ""

    # ---- how ----

    @_safely
    def _connect(self) -> None:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        own = f"sqlite:///{(self.runs / 'mlflow.db').as_posix()}"
        uri = os.environ.get("MLFLOW_TRACKING_URI") or own
        if uri == own:
            self.runs.mkdir(parents=True, exist_ok=True)
        self.client = MlflowClient(tracking_uri=uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        known = self.client.get_experiment_by_name(name)
        place = (self.runs / "mlflow-artifacts").as_uri() if uri == own else None
        self.experiment = known.experiment_id if known else self.client.create_experiment(name, place)

    def _found(self, full_hash: str) -> str:
        """The id of the MLflow run of this hash; empty where there is none."""
        runs = self.client.search_runs([self.experiment], f"tags.`ens.hash` = '{full_hash}'", max_results=1)
        return str(runs[0].info.run_id) if runs else ""

    def _created(self, run_id: str, full_hash: str, kind: str) -> str:
        tags = {"ens.hash": full_hash, "ens.run": run_id, "ens.kind": kind}
        return str(self.client.create_run(self.experiment, tags=tags, run_name=run_id).info.run_id)

    def _tell(self, run: Run) -> None:
        """Parameters, the epochs that are not there, scores, files."""
        from mlflow.entities import Metric

        self._tell_parameters(parameters(run))
        self.steps = {one.step for one in self.client.get_metric_history(self.current, STEPS)}
        for done, row in enumerate(history(run), 1):
            self._tell_epoch(done, row)
        now = int(1000 * time.time())
        self.client.log_batch(
            self.current, metrics=[Metric(name, value, now, 0) for name, value in scores(run).items()]
        )
        tags = {"ens.arch": run.arch, "ens.data": run.fingerprint, "ens.parents": _parents(run)}
        for name, value in tags.items():
            self.client.set_tag(self.current, name, value)
        for path, folder in artifacts(run, self.weights):
            self.client.log_artifact(self.current, str(path), folder)

    def _tell_parameters(self, recipe: Mapping[str, Any]) -> None:
        """Those that MLflow does not know: it takes no second value, and a path or a name may have changed."""
        from mlflow.entities import Param

        known = self.client.get_run(self.current).data.params
        new = {allowed(name): _text(value) for name, value in flat(recipe)}
        wanted = [Param(name, value[:LONGEST]) for name, value in new.items() if name not in known]
        for start in range(0, len(wanted), BATCH):
            self.client.log_batch(self.current, params=wanted[start : start + BATCH])

    def _tell_epoch(self, done: int, row: Epoch) -> None:
        from mlflow.entities import Metric

        if done in self.steps:
            return
        now = int(1000 * time.time())
        values = {name: value for name, value in asdict(row).items() if value is not None and name != "epoch"}
        self.client.log_batch(
            self.current, metrics=[Metric(name, float(value), now, done) for name, value in values.items()]
        )
        self.steps.add(done)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _parents(run: Run) -> str:
    return " ".join(str(parent.get("id")) for parent in run.facts.get("parents") or ())[:LONGEST]


def _content(run: Run, weights: bool) -> str:
    """Changes when anything of the run that is told has changed, but the time at which it was combined again."""
    timeless = {key: value for key, value in run.facts.items() if key != "combined"}

    def digest(path: Path) -> str:
        timed = path.name == "run.json" and timeless != run.facts
        return sha256_json(timeless) if timed else sha256_file(path)

    return sha256_json({f"{folder}/{path.name}": digest(path) for path, folder in artifacts(run, weights)})
