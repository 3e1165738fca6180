"""`kill -9` at any moment and the same command again: the bits of an undisturbed run, in real processes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow


# four filters on 16 pixels: seconds, and yet a head stage, the finder, two stages and checkpoints in between
TRAIN = [
    *("train", "--arch", "customnet", "--image-size", "16", "--batch-size", "32"),
    *("--set", "filters=[8, 16, 16]", "--set", "batch_norm=true", "--frozen-epochs", "2", "--epochs", "4"),
    *("--set", "precision=float32", "--set", "layout=default", "--device", "cpu"),
]


def ens(runs: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ensemble", "--runs", str(runs), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=runs.parent,
        # a shell's background job ignores Ctrl-C, and its children with it
        preexec_fn=None if os.name == "nt" else lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )


def finished(runs: Path, *args: str) -> Path:
    process = ens(runs, *args)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return runs / out.strip().splitlines()[-1]


def bits(run: Path) -> tuple[bytes, bytes, bytes, list[list[str]], str]:
    rows = [row[:-1] for row in csv.reader((run / "history.csv").open())]  # all but the seconds
    return (
        (run / "weights.safetensors").read_bytes(),
        (run / "valid.npz").read_bytes(),
        (run / "test.npz").read_bytes(),
        rows,
        (run / "lr_find.csv").read_text(),
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("a") / "runs", *TRAIN)


def progress(run: Path) -> int:
    """How far a run is: 0 before run.json, then one more for each file that training leaves."""
    signs = ["run.json", "lr_find.csv", "checkpoint/state.safetensors", "weights.safetensors", "valid.npz"]
    return sum((run / sign).exists() for sign in signs)


def kill_when(process: subprocess.Popen[str], run: Path, stage: int, delay: float, with_signal: int) -> bool:
    """Send the signal `delay` seconds after the run has come as far as `stage`. False if it ended before."""
    while process.poll() is None:
        if progress(run) >= stage:
            time.sleep(delay)
            process.send_signal(with_signal)
            break
        time.sleep(0.002)
    process.communicate(timeout=60)
    return process.returncode not in (0, None)


def test_killed_training_resumes_to_the_same_bits(undisturbed: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    run = runs / undisturbed.name
    killed = 0
    for stage, delay in [(1, 0.1), (2, 0.0), (3, 0.05), (3, 0.4), (3, 0.9), (4, 0.0), (5, 0.0)]:
        killed += kill_when(ens(runs, *TRAIN), run, stage, delay, signal.SIGKILL)
    assert killed >= 4
    assert finished(runs, *TRAIN) == run
    assert bits(run) == bits(undisturbed)
    assert not (run / "checkpoint").exists()


def test_sigterm_ends_with_143_and_resumes(undisturbed: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    run = runs / undisturbed.name
    process = ens(runs, *TRAIN)
    assert kill_when(process, run, 3, 0.2, signal.SIGTERM)
    assert process.returncode == 143
    assert finished(runs, *TRAIN) == run
    assert bits(run) == bits(undisturbed)


def test_ctrl_c_ends_with_130(undisturbed: Path, tmp_path: Path) -> None:
    process = ens(tmp_path / "runs", *TRAIN)
    assert kill_when(process, tmp_path / "runs" / undisturbed.name, 1, 0.2, signal.SIGINT)
    assert process.returncode == 130


def test_second_process_names_the_first(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    long = [*TRAIN, "--epochs", "2000"]  # the second process takes seconds to start
    first = ens(runs, *long)
    while not list(runs.glob("*/run.json")) and first.poll() is None:
        time.sleep(0.01)
    second = ens(runs, *long)
    _, err = second.communicate(timeout=120)
    assert second.returncode == 5
    assert f"in use by process {first.pid}" in err
    assert first.poll() is None
    first.kill()
    first.communicate(timeout=60)


def test_complete_run_is_left_alone(undisturbed: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in undisturbed.iterdir()}
    process = ens(undisturbed.parent, *TRAIN)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "is complete" in err
    assert {path.name: path.stat().st_mtime_ns for path in undisturbed.iterdir()} == before


def test_run_holds_the_documented_files(undisturbed: Path) -> None:
    facts = json.loads((undisturbed / "run.json").read_text())
    assert facts["schema"] == 1
    assert facts["kind"] == "member"
    assert facts["arch"] == "customnet"
    assert facts["classes"] == [str(digit) for digit in range(10)]
    assert len(facts["hash"]) == 64
    assert undisturbed.name == f"customnet-{facts['hash'][:8]}"
    assert 1e-7 < facts["auto"]["lr"]["0"]["value"] < 10
    assert facts["rates"]["1"] == pytest.approx(facts["rates"]["0"] / 2)
    with np.load(undisturbed / "valid.npz", allow_pickle=False) as valid:
        assert valid["probs"].dtype == np.float32
        assert valid["probs"].shape == (len(valid["ids"]), 10)
        assert np.allclose(valid["probs"].sum(1), 1, atol=1e-5)
        accuracy = (valid["probs"].argmax(1) == valid["targets"]).mean()
    assert json.loads((undisturbed / "metrics.json").read_text())["valid"]["accuracy"] == pytest.approx(accuracy)
    header = (undisturbed / "history.csv").read_text().splitlines()[0]
    assert header == "stage,epoch,train_loss,valid_loss,train_accuracy,valid_accuracy,lr,seconds"
