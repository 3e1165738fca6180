"""What a tracker is told, and what it can never do: change a result, or lose one."""

from __future__ import annotations

import json
import os
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

from ensemble import tracking
from ensemble.cli import run as ens
from ensemble.core.errors import EnsError
from ensemble.runs.run import Run
from ensemble.tracking.base import allowed, artifacts, flat, scores

SMALL = ["--arch", "customnet", "--set", "filters=[4, 8]", "--image-size", "16", "--lr", "0.01", "--device", "cpu"]
SMALL += ["--set", "precision=float32", "--set", "layout=default", "--epochs", "3"]


# ---- values ----


def test_recipes_become_flat_names() -> None:
    nested = {"arch": "x", "data": {"form": "csv", "tests": {}}, "stages": [{"epochs": 1}]}
    assert dict(flat(nested)) == {
        "arch": "x",
        "data.form": "csv",
        "data.tests": {},
        "stages": [{"epochs": 1}],
    }


def test_classes_called_anything_give_names_that_may_be_used_and_stay_apart(tmp_path: Path) -> None:
    created = run(tmp_path, "net-1", {"valid": predictions(12, 1)})
    values = {f"roc_auc:{name}": 0.5 for name in ("<script>", "(script)", "naïve/猫", "..")}
    (created.path / "metrics.json").write_text(json.dumps({"schema": 1, "valid": {**values, "log_loss": None}}))
    result = scores(Run(created.path))
    names = [name for name in result if name.startswith("valid.")]
    assert len(names) == 4  # no two of them are one; what is not known is not there
    assert not set("".join(names)) & set("<>()/:")
    assert "schema" not in result
    assert result["cost.bytes"] == 40
    assert allowed("valid.roc_auc") == "valid.roc_auc"


def test_weights_and_predictions_are_not_copied_unless_asked(tmp_path: Path) -> None:
    created = run(tmp_path, "net-1", {"valid": predictions(12, 1)})
    (created.path / "weights.safetensors").write_bytes(b"w")
    (created.path / "figures").mkdir()
    (created.path / "figures" / "gradcam.png").write_bytes(b"p")
    names = {(path.name, folder) for path, folder in artifacts(created, weights=False)}
    assert names == {("run.json", None), ("metrics.json", None), ("gradcam.png", "figures")}
    assert ("weights.safetensors", None) in {
        (path.name, folder) for path, folder in artifacts(created, weights=True)
    }


def test_a_missing_package_is_told_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(EnsError, match="pip install mlflow-skinny"):
        tracking.tracking("mlflow", tmp_path, False)


def test_when_off_nothing_is_imported_and_nothing_is_written(tmp_path: Path) -> None:
    run(tmp_path / "runs", "net-1", {"valid": predictions(12, 1)})
    code = (
        "import sys; from ensemble.cli import run; assert run(['combine', 'net-1']) == 0;"
        " sys.exit('mlflow' in sys.modules or 'ensemble.tracking' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env={**os.environ}, capture_output=True)
    assert not list((tmp_path / "runs").glob("mlflow*"))


def test_weights_without_a_tracker_are_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ens(["combine", "--track-weights"]) == 2
    assert "--track mlflow" in capsys.readouterr().err


# ---- MLflow itself ----


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("ENS_RUNS", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def told(uri: str = "") -> dict[str, Any]:
    """MLflow's runs by name, read back by its own client. No name is there twice."""
    from mlflow import MlflowClient

    client = MlflowClient(uri or f"sqlite:///{Path('runs').resolve()}/mlflow.db")
    experiment = client.get_experiment_by_name("ensemble")
    result = client.search_runs([experiment.experiment_id])
    names = [one.info.run_name for one in result]
    assert len(names) == len(set(names))
    return {one.info.run_name: (client, one) for one in result}


@pytest.mark.slow
def test_members_folds_and_ensembles_are_read_back_through_the_client(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ens(["train", *SMALL, "--folds", "2", "--track", "mlflow", "--track-weights"]) == 0
    assert ens(["train", *SMALL, "--seed", "1", "--folds", "2"]) == 0  # before anybody was told
    assert ens(["train", *SMALL, "--seed", "1", "--folds", "2", "--track", "mlflow"]) == 0
    assert ens(["combine", "--track", "mlflow"]) == 0
    runs = told()
    assert set(runs) == {path.parent.name for path in Path("runs").glob("*/run.json")}
    for name, (client, one) in runs.items():
        ours = Run(Path("runs") / name)
        assert one.info.status == "FINISHED"
        assert one.data.tags["ens.kind"] == ours.kind
        assert one.data.metrics["valid.accuracy"] == ours.metrics["valid"]["accuracy"]
        files = {artifact.path for artifact in client.list_artifacts(one.info.run_id)}
        assert {"run.json", "metrics.json"} <= files
        local = Path(client.download_artifacts(one.info.run_id, "metrics.json"))
        assert local.read_bytes() == (ours.path / "metrics.json").read_bytes()
        assert one.info.artifact_uri.startswith((home / "runs").as_uri())
        if ours.kind == "ensemble":
            assert one.data.params["rule"] == "accuracy"
            assert one.data.metrics["honest.accuracy.value"] == ours.metrics["honest"]["accuracy"]["value"]
            assert {"ensemble.yaml", "report.json"} <= files
        else:
            assert (one.data.params["arch"], one.data.params["data.form"]) == ("customnet", "digits")
            assert ("weights.safetensors" in files) == (one.data.params["seed"] == "0" and ours.kind == "member")
        if ours.kind == "member":
            steps = client.get_metric_history(one.info.run_id, "valid_loss")
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
def test_a_run_that_was_killed_goes_on_as_the_same_run_there(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["train", *SMALL, "--epochs", "12", "--track", "mlflow"]
    first = subprocess.Popen([sys.executable, "-m", "ensemble", *command], stderr=subprocess.DEVNULL)
    while first.poll() is None and not list(Path("runs").glob("*/checkpoint/state.safetensors")):
        time.sleep(0.01)
    first.kill()
    first.wait()
    ((_, begun),) = told().values()
    assert begun.info.status == "RUNNING"
    assert ens(command) == 0
    ((client, one),) = told().values()
    assert one.info.run_id == begun.info.run_id
    assert one.info.status == "FINISHED"
    steps = [metric.step for metric in client.get_metric_history(one.info.run_id, "train_loss")]
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
def test_a_tracker_that_fails_changes_no_bit_and_warns_once(
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
def test_a_server_that_is_not_there_holds_nobody_up(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run(Path("runs"), "net-1", {"valid": predictions(12, 1)})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    started = time.monotonic()
    assert ens(["combine", "net-1", "--track", "mlflow"]) == 0
    assert time.monotonic() - started < 20
    assert "tracking stops" in capfd.readouterr().err


@pytest.mark.slow
def test_the_place_that_the_environment_names_is_honoured(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(Path("runs"), "net-1", {"valid": predictions(12, 1)})
    uri = f"sqlite:///{home}/elsewhere.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert ens(["combine", "net-1", "--track", "mlflow"]) == 0
    assert len(told(uri)) == 1
    assert not Path("runs/mlflow.db").exists()
