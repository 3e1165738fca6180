"""Members trained at the same time, each by a process of its own."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.listeners import Noted
from helpers.processes import HEARS_SIGNALS
from helpers.workers import decode_digits

from ensemble.core.errors import RunLocked
from ensemble.core.events import Listener
from ensemble.data.digits import digits_dataset
from ensemble.recipe.data_spec import DataSpec
from ensemble.recipe.resolve import resolved
from ensemble.recipe.schema import Recipe
from ensemble.runs.run import locked
from ensemble.training.jobs.parallel import best_count, independent, train_all
from ensemble.training.jobs.plan import Job
from ensemble.training.jobs.train import plans, train

KEYS: dict[str, Any] = {
    "arch": "customnet",
    "weights": "none",
    "image_size": 16,
    "filters": [4, 8],
    "epochs": 1,
    "lr": 0.01,
    "precision": "float32",
    "layout": "default",
}


def jobs(folder: Path, *members: dict[str, Any]) -> list[Job]:
    recipes = [resolved(Recipe(data=DataSpec(), name=f"m{i}", **(KEYS | keys))) for i, keys in enumerate(members)]
    result, errors = plans(recipes, digits_dataset().fingerprint, folder)
    assert not errors
    return result


@pytest.mark.parametrize(
    ("speeds", "most", "count"),
    [
        ({1: 100.0, 2: 190.0, 4: 300.0, 8: 310.0}, 8, 4),
        ({1: 100.0, 2: 105.0}, 8, 1),
        ({1: 100.0, 2: 0.0}, 8, 1),  # two do not fit
        ({1: 100.0, 2: 200.0, 4: 400.0}, 5, 4),
        ({1: 0.0, 2: 0.0}, 8, 1),  # nothing could be measured
    ],
)
def test_parallel_count_is_the_fastest(speeds: dict[int, float], most: int, count: int) -> None:
    pace: Callable[[int], float] = speeds.__getitem__
    assert best_count(pace, most) == count


def test_jobs_that_share_a_run_stay_together(tmp_path: Path) -> None:
    first, other, full = jobs(tmp_path, {"seed": 0}, {"seed": 1}, {"seed": 0, "full": True})
    groups = independent([first, other, full])
    assert sorted(sorted(job.path.name for job in group) for group in groups) == sorted(
        [sorted([first.path.name, full.path.name]), [other.path.name]]
    )


@pytest.mark.slow
def test_members_trained_together_are_those_trained_alone(tmp_path: Path) -> None:
    data, notes = digits_dataset(), list[str]()
    wanted = [{"seed": 0}, {"seed": 1}, {"seed": 2, "image_size": 8}]
    alone = jobs(tmp_path / "alone", *wanted)
    threads = torch.get_num_threads()
    # as many as each of two processes has: another number of threads adds up in another order
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    try:
        train(alone, data, tmp_path / "alone", device="cpu", retry=False, listener=Noted(notes))
    finally:
        torch.set_num_threads(threads)
    together = jobs(tmp_path / "together", *wanted)
    outcomes = train_all(
        together, data, tmp_path / "together", workers=2, device="cpu", retry=False, listener=Noted(notes)
    )
    assert [outcome.job.path.name for outcome in outcomes] == [job.path.name for job in together]
    assert all(outcome.error is None for outcome in outcomes), [str(outcome.error) for outcome in outcomes]
    for first, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(first.run.predictions("test").probs, other.run.predictions("test").probs)
    assert "training 2 members at a time" in notes


@pytest.mark.slow
def test_failed_member_does_not_stop_the_others(tmp_path: Path) -> None:
    data, notes = digits_dataset(), list[str]()
    two = jobs(tmp_path, {}, {"seed": 1})
    with locked(tmp_path, two[0].path.name):
        outcomes = train_all(two, data, tmp_path, workers=2, device="cpu", retry=False, listener=Noted(notes))
    assert outcomes[0].error is not None
    assert outcomes[0].error.exit_code == RunLocked.exit_code
    assert "is in use by process" in str(outcomes[0].error)
    assert outcomes[1].error is None
    assert any("failed, the others go on" in note for note in notes)


@pytest.mark.slow
def test_pace_of_several_processes_is_measured(tmp_path: Path) -> None:
    from ensemble.training.jobs.parallel import WorkerSetup, worker_pool

    (job,) = jobs(tmp_path, {})
    with worker_pool(WorkerSetup(digits_dataset(), tmp_path, "cpu", False, 1, Listener()), 2) as pool:
        for count in (1, 2):
            assert pool.pace(job, count) > 0
            assert len(multiprocessing.active_children()) == count  # no more are begun than are needed


@pytest.mark.slow
def test_two_processes_make_a_store_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    with context.Manager() as manager:
        notes = manager.list()
        both = [context.Process(target=decode_digits, args=(tmp_path, barrier, notes)) for _ in range(2)]
        for process in both:
            process.start()
        for process in both:
            process.join()
        assert [process.exitcode for process in both] == [0, 0]
        assert not [note for note in notes if "again" in note]
    assert len(list(tmp_path.glob("*.u8"))) == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="processes end otherwise there")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_ended_command_ends_its_processes(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    command = [sys.executable, "-m", "ensemble", "--runs", str(tmp_path), "train", "--arch", "customnet", "-j", "2"]
    command += ["--epochs", "500", "--seed", "0", "--seed", "1", "--lr", "0.01"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **HEARS_SIGNALS) as process:
        assert process.stderr is not None
        under_way: set[str] = set()
        while len(under_way) < 2:
            line = process.stderr.readline()
            under_way |= {line.split()[0]} if "epoch" in line else set()
        children = _children(process.pid)
        assert children
        process.send_signal(sent)  # to the command alone, as a scheduler does
        assert process.wait(60) == code
        assert sent == signal.SIGKILL or "Traceback" not in process.stderr.read()
    deadline = time.monotonic() + 30
    while any(_alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(_alive(child) for child in children)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="processes end otherwise there")
def test_killed_process_fails_its_own_member_only(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ensemble", "--runs", str(tmp_path), "train", "--arch", "customnet", "-j", "2"]
    command += ["--epochs", "60", "--lr", "0.01", "--set", "filters=[4, 8]", "--image-size", "16"]
    for seed in range(4):
        command += ["--seed", str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        victim = ""
        while "epoch 3" not in victim:
            victim = process.stderr.readline()
            assert victim or process.poll() is None
        name = victim.split()[0].rstrip(":")
        holder = json.loads((tmp_path / ".locks" / f"{name}.json").read_text())
        os.kill(holder["pid"], signal.SIGKILL)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    done = {path.parent.name for path in tmp_path.glob("*/metrics.json")}
    assert len(done) == 3 and name not in done and set(out.split()) == done
    assert f"{name} failed, the others go on: its process ended" in err
    (last,) = [line for line in err.splitlines() if line.startswith("ens:")]
    assert "1 of 4 members failed" in last and name in last and "BrokenProcessPool" not in err
    again = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert set(again.stdout.split()) == {name, *done}
    epochs = [int(line.split("epoch ")[1].split("/")[0]) for line in again.stderr.splitlines() if "epoch " in line]
    assert min(epochs) > 1  # it went on from a checkpoint


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
