"""Trainings tracked by MLflow: what its client reads back; failures change no result."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.fake_runs import predictions, run

from ensemble.cli import run as ens
from ensemble.runs.run import Run

SMALL = ["--arch", "customnet", "--set", "filters=[4, 8]", "--image-size", "16", "--lr", "0.01", "--device", "cpu"]
SMALL += ["--set", "precision=float32", "--set", "layout=default", "--epochs", "3"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("ENS_RUNS", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def stored_runs(uri: str = "") -> dict[str, Any]:
    """MLflow's runs by name, read back by its own client. No name is there twice."""
    from mlflow import MlflowClient

    client = MlflowClient(uri or f"sqlite:///{Path('runs').resolve()}/mlflow.db")
    experiment = client.get_experiment_by_name("ensemble")
    result = client.search_runs([experiment.experiment_id])
    names = [item.info.run_name for item in result]
    assert len(names) == len(set(names))
    return {item.info.run_name: (client, item) for item in result}


@pytest.mark.slow
def test_mlflow_holds_members_folds_and_ensembles(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ens(["train", *SMALL, "--folds", "2", "--track", "mlflow", "--track-weights"]) == 0
    assert ens(["train", *SMALL, "--seed", "1", "--folds", "2"]) == 0  # before anybody was told
    assert ens(["train", *SMALL, "--seed", "1", "--folds", "2", "--track", "mlflow"]) == 0
    assert ens(["combine", "--track", "mlflow"]) == 0
    runs = stored_runs()
    assert set(runs) == {path.parent.name for path in Path("runs").glob("*/run.json")}
    for name, (client, item) in runs.items():
        ours = Run(Path("runs") / name)
        assert item.info.status == "FINISHED"
        assert item.data.tags["ens.kind"] == ours.kind
        assert item.data.metrics["valid.accuracy"] == ours.metrics["valid"]["accuracy"]
        files = {artifact.path for artifact in client.list_artifacts(item.info.run_id)}
        assert {"run.json", "metrics.json"} <= files
        local = Path(client.download_artifacts(item.info.run_id, "metrics.json"))
        assert local.read_bytes() == (ours.path / "metrics.json").read_bytes()
        assert item.info.artifact_uri.startswith((home / "runs").as_uri())
        if ours.kind == "ensemble":
            assert item.data.params["rule"] == "accuracy"
            assert item.data.metrics["honest.accuracy.value"] == ours.metrics["honest"]["accuracy"]["value"]
            assert {"ensemble.yaml", "report.json"} <= files
        else:
            assert (item.data.params["arch"], item.data.params["data.form"]) == ("customnet", "digits")
            assert ("weights.safetensors" in files) == (item.data.params["seed"] == "0" and ours.kind == "member")
        if ours.kind == "member":
            steps = client.get_metric_history(item.info.run_id, "valid_loss")
            rows = [line.split(",") for line in (ours.path / "history.csv").read_text().splitlines()[1:]]
            assert [(metric.step, metric.value) for metric in steps] == [
                (at, float(row[3])) for at, row in enumerate(rows, 1)
            ]
    # what is known is not told twice
    before = Path("runs/mlflow.db").read_bytes()
    assert ens(["combine", "--track", "mlflow"]) == 0
    assert ens(["train", *SMALL, "--folds", "2", "--track", "mlflow", "--track-weights"]) == 0
    assert Path("runs/mlflow.db").read_bytes() == before


@pytest.mark.slow
def test_killed_run_continues_its_mlflow_run(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["train", *SMALL, "--epochs", "12", "--track", "mlflow"]
    first = subprocess.Popen([sys.executable, "-m", "ensemble", *command], stderr=subprocess.DEVNULL)
    while first.poll() is None and not list(Path("runs").glob("*/checkpoint/state.safetensors")):
        time.sleep(0.01)
    first.kill()
    first.wait()
    ((_, begun),) = stored_runs().values()
    assert begun.info.status == "RUNNING"
    assert ens(command) == 0
    ((client, item),) = stored_runs().values()
    assert item.info.run_id == begun.info.run_id
    assert item.info.status == "FINISHED"
    steps = [metric.step for metric in client.get_metric_history(item.info.run_id, "train_loss")]
    assert steps == list(range(1, 13))  # an epoch that was trained again is one epoch


class Broken:
    """Fails in every way that a server can, and draws random numbers before it does."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def fail(*args: Any, **kwargs: Any) -> Any:
            import random

            random.random()
            np.random.random()  # noqa: NPY002
            if name == "log_batch" and kwargs.get("metrics"):
                raise ConnectionError("the server\nhas gone")
            found = {"info": SimpleNamespace(run_id="1"), "data": SimpleNamespace(params={}, tags={})}
            return SimpleNamespace(experiment_id="0", **found)

        if name in ("get_metric_history", "search_runs"):
            return lambda *args, **kwargs: []
        return fail


@pytest.mark.slow
def test_failing_tracker_changes_no_bit_and_warns_once(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import mlflow

    args = ["train", *SMALL, "--set", "augment=standard"]
    assert ens(["--runs", "plain", *args]) == 0
    monkeypatch.setattr(mlflow, "MlflowClient", Broken)
    capfd.readouterr()
    assert ens(["--runs", "told", *args, "--track", "mlflow"]) == 0
    out, err = capfd.readouterr()
    (warning,) = [line for line in err.splitlines() if "tracking" in line]
    assert "the work goes on" in warning and "has gone" in warning
    for name in ("weights.safetensors", "valid.npz", "test.npz", "metrics.json", "recipe.yaml"):
        assert (Path("told") / out.strip() / name).read_bytes() == (Path("plain") / out.strip() / name).read_bytes()


@pytest.mark.slow
def test_absent_mlflow_server_delays_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run(Path("runs"), "net-1", {"valid": predictions(12, 1)})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    started = time.monotonic()
    assert ens(["combine", "net-1", "--track", "mlflow"]) == 0
    assert time.monotonic() - started < 20
    assert "tracking stops" in capfd.readouterr().err


@pytest.mark.slow
def test_mlflow_uri_of_the_environment_is_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(Path("runs"), "net-1", {"valid": predictions(12, 1)})
    uri = f"sqlite:///{home}/elsewhere.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert ens(["combine", "net-1", "--track", "mlflow"]) == 0
    assert len(stored_runs(uri)) == 1
    assert not Path("runs/mlflow.db").exists()
