"""How long `ens --help`, `ens ls` and `ens combine` take beyond `python -c "import click"`.

    python tests/benchmarks/cli_startup.py [RESULT.json]

Nine members of 10,000 rows and ten classes; each time is the best of several, in turn with its baseline.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ensemble.core.files import write_json
from ensemble.core.predictions import Predictions, save
from ensemble.data.digits import DIGITS_FINGERPRINT

REPEATS = 5


def members(folder: Path, m: int = 9, n: int = 10_000, k: int = 10) -> None:
    """Write m complete members with valid and test predictions."""
    random = np.random.default_rng(0)
    ids = np.array([f"image{i:05d}" for i in range(n)])
    classes = np.array([f"class{i}" for i in range(k)])
    targets = random.integers(0, k, n)
    for index in range(m):
        path = folder / f"net{index}-{index:08x}"
        logits = random.normal(size=(n, k)) + 5 * np.eye(k)[targets] * random.random((n, 1))
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        facts = {
            "schema": 1,
            "kind": "member",
            "arch": f"net{index % 4}",
            "fold": None,
            "data": {"form": "folders", "fingerprint": DIGITS_FINGERPRINT, "tests": {}},
            "classes": classes.tolist(),
        }
        path.mkdir(parents=True)
        write_json(path / "run.json", facts)
        save(path / "valid.npz", Predictions(ids, probs.astype(np.float32), classes, targets))
        save(path / "test.npz", Predictions(ids, probs[::-1].astype(np.float32), classes))
        write_json(path / "metrics.json", {"schema": 1, "valid": {"n": n, "accuracy": 0.5}})


def seconds(command: list[str]) -> float:
    """The wall time of one run of `command`."""
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""})
    return time.perf_counter() - started


def main() -> None:
    """Print and perhaps keep the figures."""
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        members(runs)
        ens = [sys.executable, "-m", "ensemble", "--runs", folder]
        commands = {
            "ens --help": [*ens, "--help"],
            "ens ls": [*ens, "ls"],
            "ens combine": [*ens, "combine", "--threshold", "0.3"],
        }
        baseline = [sys.executable, "-c", "import click"]
        times: dict[str, list[float]] = {name: [] for name in ("import click", *commands)}
        for _ in range(REPEATS):
            times["import click"].append(seconds(baseline))
            for name, command in commands.items():
                times[name].append(seconds(command))
    best = {name: min(values) for name, values in times.items()}
    base = best["import click"]
    for name, value in best.items():
        print(f"{name:14} {value:.3f} s, {value - base:+.3f} s, {value / base:.1f} x `import click`")
    if len(sys.argv) > 1:
        versions = {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "machine": platform.machine(),
        }
        write_json(Path(sys.argv[1]), {"seconds": best, "cores": os.cpu_count(), "versions": versions})
        print(json.dumps(versions))


if __name__ == "__main__":
    main()
