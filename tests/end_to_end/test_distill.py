"""`ens distill` with networks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ensemble.cli import run as ens
from ensemble.core.predictions import load

PLAIN = [
    "--image-size",
    "16",
    "--lr",
    "0.01",
    "--set",
    "precision=float32",
    "--set",
    "layout=default",
    "--device",
    "cpu",
]


STUDENT = ["--arch", "customnet", "--set", "filters=[4, 8]", *PLAIN, "--folds", "2"]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an ensemble of two networks of two folds on the digits, in `runs`."""
    home = tmp_path_factory.mktemp("distill")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        member = ["--arch", "customnet", "--set", "filters=[8, 16]", *PLAIN, "--folds", "2", "--epochs", "2"]
        assert ens(["train", *member, "--seed", "0", "--seed", "1"]) == 0
        assert ens(["combine"]) == 0
    return home


@pytest.fixture
def home(taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(taught / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(taught / "cache"))
    return tmp_path


def distilled(capfd: pytest.CaptureFixture[str], *args: str) -> tuple[Path, dict]:
    capfd.readouterr()
    assert ens(["distill", *STUDENT, *args, "--json"]) == 0, capfd.readouterr().err
    result = json.loads(capfd.readouterr().out)
    return Path("runs") / result["runs"][1]["run"], result


@pytest.mark.slow
def test_student_is_one_network_with_an_honest_score(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    student, result = distilled(capfd, "--epochs", "3")
    facts = json.loads((student / "run.json").read_text())
    assert facts["kind"] == "student"
    assert facts["chosen_on_valid"] == ["soft labels"]  # said beside its score wherever that is shown
    assert facts["parents"][0]["id"].startswith("ensemble-") and len(facts["parents"]) == 3
    assert all(len(parent["sha256"]["valid"]) == 64 for parent in facts["parents"])
    assert json.loads((student / "distilled.json").read_text()) == result
    valid = load(student / "valid.npz")
    assert len(valid) == 1438 == result["valid"]["rows"]
    scores = json.loads((student / "metrics.json").read_text())["valid"]
    assert scores["accuracy"] == pytest.approx(result["valid"]["student"])
    # each fold predicted its own rows
    parts = [load(Path("runs") / parent["id"] / "valid.npz") for parent in facts["parents"][1:]]
    assert not set(parts[0].ids) & set(parts[1].ids)
    assert sorted([*parts[0].ids, *parts[1].ids]) == sorted(valid.ids)
    assert (home / student / "distilled.json").exists()
    gain = result["valid"]["ensemble"] - result["valid"]["baseline"]
    assert result["valid"]["gain"]["value"] == pytest.approx(gain)
    assert result["test"]["rows"] == 359
    # one network: the same bytes as its baseline's folds have each
    assert result["runs"][1]["bytes"] == pytest.approx(result["runs"][2]["bytes"], rel=0.01)

    Image.fromarray(np.zeros((8, 8), np.uint8)).save("zero.png")
    for command in (
        ["ls"],
        ["predict", student.name, "zero.png"],
        ["submit", student.name],
        ["compare", student.name, result["runs"][2]["run"]],
        ["explain", student.name, "zero.png"],
    ):
        capfd.readouterr()
        assert ens(command) == 0, (command, capfd.readouterr().err)
    capfd.readouterr()
    assert ens(["ls", "--json"]) == 0
    kinds = {row["id"]: row["kind"] for row in json.loads(capfd.readouterr().out)}
    assert kinds[student.name] == "student" and list(kinds.values()).count("student") == 1
    # a complete one is left alone
    before = (student / "weights.safetensors").stat().st_mtime_ns
    assert distilled(capfd, "--epochs", "3") == (student, result)
    assert (student / "weights.safetensors").stat().st_mtime_ns == before
    # nor does it join an ensemble that nobody asked it to join
    capfd.readouterr()
    assert ens(["combine", "--json"]) == 0
    assert student.name not in {member["id"] for member in json.loads(capfd.readouterr().out)["members"]}


@pytest.mark.slow
def test_student_can_be_exported(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxscript")
    student, _ = distilled(capfd, "--epochs", "1")
    assert ens(["export", student.name]) == 0, capfd.readouterr().err


@pytest.mark.slow
def test_student_without_folds_is_scored_on_valid(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    args = ["--epochs", "1", "--set", "folds=null", "--set", "mixing=mixup", "--alpha", "1"]
    student, result = distilled(capfd, *args)
    assert result["valid"]["rows"] == len(load(student / "valid.npz")) == 359
    assert len(json.loads((student / "run.json").read_text())["parents"]) == 1


@pytest.mark.slow
def test_teacher_labels_decide_weights_and_id_in_any_order(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    student, _ = distilled(capfd, "--epochs", "1")
    weights = (student / "weights.safetensors").read_bytes()
    (teacher,) = Path("runs").glob("ensemble-*")
    from ensemble.core.predictions import save

    rows = load(teacher / "valid.npz")
    order = np.random.default_rng(0).permutation(len(rows))
    assert rows.targets is not None
    mixed = replace(rows, ids=rows.ids[order], probs=rows.probs[order], targets=rows.targets[order])
    for path in Path("runs").glob("customnet-student*"):
        shutil.rmtree(path)
    save(teacher / "valid.npz", mixed)
    again, _ = distilled(capfd, "--epochs", "1")
    assert (again.name, (again / "weights.safetensors").read_bytes()) == (student.name, weights)
    save(teacher / "valid.npz", replace(rows, probs=np.roll(rows.probs, 1, axis=1)))
    other, result = distilled(capfd, "--epochs", "1", "--alpha", "1")
    assert other.name != student.name
    assert result["valid"]["student"] < 0.2  # it believes every wrong word


@pytest.mark.slow
def test_killed_student_resumes_to_the_same_bits(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    student, _ = distilled(capfd, "--epochs", "4")
    expected = [(student / name).read_bytes() for name in ("weights.safetensors", "valid.npz", "test.npz")]
    for path in Path("runs").glob("customnet-student*"):
        shutil.rmtree(path)
    command = [sys.executable, "-m", "ensemble", "distill", *STUDENT, "--epochs", "4"]
    env = {**os.environ, "OMP_NUM_THREADS": str(__import__("torch").get_num_threads())}
    first = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while first.poll() is None and not (student / "checkpoint/state.safetensors").exists():
        time.sleep(0.005)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (student / "metrics.json").exists()
    again, _ = distilled(capfd, "--epochs", "4")
    assert again == student
    names = ("weights.safetensors", "valid.npz", "test.npz")
    assert [(student / name).read_bytes() for name in names] == expected


@pytest.mark.slow
def test_distill_errors_are_one_line(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for args, code, output in (
        (["distill"], 2, "--arch"),
        (["distill", "nobody", "--arch", "customnet"], 3, "nobody"),
        (["distill", "--arch", "customnet", "--set", "loss=focal"], 2, "focal"),
        (["distill", "--arch", "customnet", "--alpha", "0"], 2, "alpha"),
        (["distill", "--arch", "customnett"], 2, "customnet"),
        (["distill", next(Path("runs").glob("customnet-fold0*")).name, "--arch", "customnet"], 3, "ens combine"),
    ):
        capfd.readouterr()
        assert ens(args) == code
        (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("ens:")]
        assert output in line
