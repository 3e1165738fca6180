"""What a tracker is given without MLflow: names, artifacts, mistakes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.fake_runs import predictions, run

from ensemble import tracking
from ensemble.cli import run as ens
from ensemble.core.errors import EnsError
from ensemble.runs.run import Run
from ensemble.tracking.base import allowed, artifacts, flat, scores


def test_recipes_become_flat_names() -> None:
    nested = {"arch": "x", "data": {"form": "csv", "tests": {}}, "stages": [{"epochs": 1}]}
    assert dict(flat(nested)) == {
        "arch": "x",
        "data.form": "csv",
        "data.tests": {},
        "stages": [{"epochs": 1}],
    }


def test_class_names_become_distinct_metric_names(tmp_path: Path) -> None:
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


def test_weights_and_predictions_are_copied_on_request_only(tmp_path: Path) -> None:
    created = run(tmp_path, "net-1", {"valid": predictions(12, 1)})
    (created.path / "weights.safetensors").write_bytes(b"w")
    (created.path / "figures").mkdir()
    (created.path / "figures" / "gradcam.png").write_bytes(b"p")
    names = {(path.name, folder) for path, folder in artifacts(created, weights=False)}
    assert names == {("run.json", None), ("metrics.json", None), ("gradcam.png", "figures")}
    assert ("weights.safetensors", None) in {
        (path.name, folder) for path, folder in artifacts(created, weights=True)
    }


def test_missing_tracker_package_is_reported_before_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(EnsError, match="pip install mlflow-skinny"):
        tracking.tracking("mlflow", tmp_path, False)


def test_tracker_off_imports_and_writes_nothing(tmp_path: Path) -> None:
    run(tmp_path / "runs", "net-1", {"valid": predictions(12, 1)})
    code = (
        "import sys; from ensemble.cli import run; assert run(['combine', 'net-1']) == 0;"
        " sys.exit('mlflow' in sys.modules or 'ensemble.tracking' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env={**os.environ}, capture_output=True)
    assert not list((tmp_path / "runs").glob("mlflow*"))


def test_tracked_weights_without_a_tracker_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ens(["combine", "--track-weights"]) == 2
    assert "--track mlflow" in capsys.readouterr().err
