"""MLflow tracker: one MLflow run per run directory, identified by the tag `ens.hash`."""

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
STEP_METRIC = "train_loss"
"""The metric whose steps are the epochs logged so far."""
MAX_LENGTH, BATCH_SIZE = 6000, 100
"""Limits of MLflow: characters of a parameter value, and parameters per request."""

_ENVIRONMENT = {
    # a server that does not answer must not delay training: the default seven tries take minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # send nothing to servers other than the tracking server
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


def _safely(method: Callable[..., None]) -> Callable[..., None]:
    """Decorator for methods that raise nothing and leave the states of the random number generators unchanged."""

    @wraps(method)
    def wrapper(self: MlflowTracker, *args: Any) -> None:
        if not self.works:
            return
        # retries wait for a random time
        states = random.getstate(), np.random.get_state()  # noqa: NPY002
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # deprecations inside its dependencies
                method(self, *args)
        except Exception as error:
            self.works = False
            self.note(f"tracking stops, the work goes on: {type(error).__name__}: {one_line(error)[:300]}")
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002

    return wrapper


class MlflowTracker:
    """Logs to MLflow at MLFLOW_TRACKING_URI, else to `<runs>/mlflow.db` with the artifacts beside it.

    The first error is reported once and ends the logging, as the run on disk matters more than its copy.
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
        """Start or resume the MLflow run of this hash."""
        self.current = ""
        self.current = self._find_run(full_hash) or self._create_run(run_id, full_hash, kind)
        self.client.update_run(self.current, status="RUNNING")
        self._log_parameters(recipe)
        self.steps = {metric.step for metric in self.client.get_metric_history(self.current, STEP_METRIC)}

    @_safely
    def epoch(self, done: int, row: Epoch) -> None:
        """Log the metrics of an epoch at step `done`."""
        if self.current:
            self._log_epoch(done, row)

    @_safely
    def stopped(self, failed: bool) -> None:
        """Set the status FAILED or, until the run is resumed, KILLED."""
        if self.current:
            self.client.set_terminated(self.current, "FAILED" if failed else "KILLED")
        self.current = ""

    @_safely
    def finished(self, run: Run) -> None:
        """Log everything of a complete run that is not in MLflow yet, if its content has changed."""
        full_hash = run.record.hash or run.id
        self.current = self._find_run(full_hash) or self._create_run(run.id, full_hash, run.kind)
        content = _content_hash(run, self.weights)
        if self.client.get_run(self.current).data.tags.get("ens.content") != content:
            self._log_run(run)
            self.client.set_tag(self.current, "ens.content", content)
            self.client.set_terminated(self.current, "FINISHED")
        self.current = ""

    # ---- internals ----

    @_safely
    def _connect(self) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        default_uri = f"sqlite:///{(self.runs / 'mlflow.db').as_posix()}"
        uri = os.environ.get("MLFLOW_TRACKING_URI") or default_uri
        if uri == default_uri:
            self.runs.mkdir(parents=True, exist_ok=True)
        self.client = MlflowClient(tracking_uri=uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        existing = self.client.get_experiment_by_name(name)
        artifact_location = (self.runs / "mlflow-artifacts").as_uri() if uri == default_uri else None
        self.experiment = (
            existing.experiment_id if existing else self.client.create_experiment(name, artifact_location)
        )

    def _find_run(self, full_hash: str) -> str:
        """The id of the MLflow run of this hash; empty if there is none."""
        runs = self.client.search_runs([self.experiment], f"tags.`ens.hash` = '{full_hash}'", max_results=1)
        return str(runs[0].info.run_id) if runs else ""

    def _create_run(self, run_id: str, full_hash: str, kind: str) -> str:
        tags = {"ens.hash": full_hash, "ens.run": run_id, "ens.kind": kind}
        return str(self.client.create_run(self.experiment, tags=tags, run_name=run_id).info.run_id)

    def _log_run(self, run: Run) -> None:
        """Log parameters, missing epochs, scores, tags and files."""
        from mlflow.entities import Metric

        self._log_parameters(parameters(run))
        self.steps = {metric.step for metric in self.client.get_metric_history(self.current, STEP_METRIC)}
        for done, row in enumerate(history(run), 1):
            self._log_epoch(done, row)
        now = int(1000 * time.time())
        self.client.log_batch(
            self.current, metrics=[Metric(name, value, now, 0) for name, value in scores(run).items()]
        )
        tags = {"ens.arch": run.arch, "ens.data": run.fingerprint, "ens.parents": _parents(run)}
        for name, value in tags.items():
            self.client.set_tag(self.current, name, value)
        for path, folder in artifacts(run, self.weights):
            self.client.log_artifact(self.current, str(path), folder)

    def _log_parameters(self, recipe: Mapping[str, Any]) -> None:
        """Log new parameters only: MLflow refuses a second value, and e.g. a path may have changed."""
        from mlflow.entities import Param

        logged = self.client.get_run(self.current).data.params
        values = {allowed(name): _text(value) for name, value in flat(recipe)}
        params = [Param(name, value[:MAX_LENGTH]) for name, value in values.items() if name not in logged]
        for start in range(0, len(params), BATCH_SIZE):
            self.client.log_batch(self.current, params=params[start : start + BATCH_SIZE])

    def _log_epoch(self, done: int, row: Epoch) -> None:
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
    return " ".join(parent.id for parent in run.record.parents)[:MAX_LENGTH]


def _content_hash(run: Run, weights: bool) -> str:
    """Hash of everything of the run that is logged, except for the time of combining."""
    untimed = run.record.without("combined")

    def digest(path: Path) -> str:
        has_time = path.name == "run.json" and untimed != run.record
        return sha256_json(untimed.values) if has_time else sha256_file(path)

    return sha256_json({f"{folder}/{path.name}": digest(path) for path, folder in artifacts(run, weights)})
