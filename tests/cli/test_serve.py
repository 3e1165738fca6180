"""`ens serve`: what cannot be served, missing packages."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
from helpers.fake_runs import member

from ensemble.cli import run as ens
from ensemble.combine.calibration import Conformal
from ensemble.combine.predicting_members import Calibration
from ensemble.core.errors import EnsError, require


def test_serve_errors_are_one_line(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def output(*words: str) -> tuple[int, str]:
        code = ens(["serve", *words])
        err = capfd.readouterr().err
        assert len(err.strip().splitlines()) == 1, err
        return code, err

    member(here / "runs", "vit-00000002", 2, kind="import")
    (here / "other").mkdir()
    (here / "other" / "config.json").write_text("[]")
    (here / "empty.zip").write_bytes(b"PK no")
    config = {"schema": 1, "run": "x", "inputs": [], "classes": [], "files": {"model.onnx": "0" * 64}}
    for name, changed in (("torn", {}), ("newer", {"schema": 2}), ("outside", {"files": {"../x": "0"}})):
        (here / name).mkdir()
        (here / name / "config.json").write_text(json.dumps(config | changed))
        (here / name / "model.onnx").write_bytes(b"onnx")
    for word, message in (
        ("vit", "has no network"),
        ("nobody", "0 runs in runs are called"),
        ("other", "is no export"),
        ("empty.zip", "is no export"),
        ("torn", "not as it was written"),
        ("newer", "schema 2"),
        ("outside", "is no export"),
    ):
        code, err = output(word)
        assert code == 3 and message in err, (word, err)
    assert output("torn", "--device", "cpu")[0] == 2
    for words in (
        ["--port", "70000"],
        ["--coverage", "2"],
        ["--max-body", "0"],
        ["--queue", "0"],
        ["--timeout", "1e7"],
    ):
        assert ens(["serve", "vit", *words]) == 2
        capfd.readouterr()


def test_serve_names_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_multipart", None)
    with pytest.raises(EnsError, match="a service needs python-multipart; type `python -m pip install"):
        require("a service", "fastapi", "python_multipart")


def test_conformal_sets_without_coverage_are_described() -> None:
    assert Calibration(Conformal(0.9, 0.5, 60), 0.9).warning == ""
    assert "every set holds every class" in Calibration(Conformal(0.99, math.inf, 8), math.nan).warning
