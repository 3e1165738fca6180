"""Ctrl-C and SIGTERM: a command ends in time, with its code, whatever its main thread does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.processes import HEARS_SIGNALS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise there")


GRACE = 1.0


BUSY = {
    # one call of C that goes on after a signal, as a compiler or a long kernel does
    "C": "import ctypes\nlibc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(256)\n"
    "libc.pthread_mutex_init(mutex, None)\nlibc.pthread_mutex_lock(mutex)\nprint('busy', flush=True)\n"
    "libc.pthread_mutex_lock(mutex)",
    # library code that swallows every exception
    "swallowed": "print('busy', flush=True)\nwhile True:\n    try:\n        time.sleep(60)\n"
    "    except BaseException:\n        pass",
    # ends by itself
    "python": "print('busy', flush=True)\ntime.sleep(60)",
    # a child that goes on
    "child": "import subprocess\nchild = subprocess.Popen(['sleep', '60'])\nprint('busy', child.pid, flush=True)\n"
    "while True:\n    try:\n        child.wait()\n    except BaseException:\n        pass",
}


def started(what: str) -> subprocess.Popen[str]:
    code = (
        "import time, ensemble.cli as cli, ensemble.cli.terminal as signals\n"
        f"signals.GRACE = {GRACE}\n"
        "def work(args):\n" + "".join(f"    {line}\n" for line in BUSY[what].splitlines()) + "    return 0\n"
        "cli.run = work\ncli.main([])\n"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, **HEARS_SIGNALS)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("what", [name for name in BUSY if name != "python"])
def test_signal_ends_a_busy_command(what: str, sent: signal.Signals, code: int) -> None:
    with started(what) as process:
        assert process.stdout is not None
        busy = process.stdout.readline().split()
        time.sleep(0.5)  # until it is where it stays
        begun = time.monotonic()
        process.send_signal(sent)
        assert process.wait(20) == code
        assert GRACE * 0.8 <= time.monotonic() - begun < 15  # it had its time
        for child in map(int, busy[1:]):
            assert not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text()


def test_second_signal_ends_at_once() -> None:
    with started("C") as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.5)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130 and time.monotonic() - begun < 0.9 * GRACE


def test_signal_lets_python_code_end() -> None:
    with started("python") as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.5)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143 and time.monotonic() - begun < 0.9 * GRACE


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_signal_ends_a_compiling_command(tmp_path: Path, jobs: int) -> None:
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a compiler")
    command = [sys.executable, "-m", "ensemble", "--runs", str(tmp_path / "runs"), "train", "--arch", "resnet18"]
    command += ["-j", str(jobs), "--epochs", "1", "--lr", "0.01", "--set", "compile=true"]
    command += [word for seed in range(jobs) for word in ("--seed", str(seed))]
    created = tmp_path / "made"
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(created)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, **HEARS_SIGNALS) as process:
        deadline = time.monotonic() + 240
        while not list(created.rglob("*.cpp")) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.2)
        assert list(created.rglob("*.cpp"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
