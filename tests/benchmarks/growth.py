"""How `ens train` grows: with images (x 1, x 4, x 16), with members (1, 3, 9), with the images' size.

    python tests/benchmarks/growth.py CIFAR10_FOLDER [RESULT.json]

Each line is one command in a folder of its own, start of Python, checks, store, probe, one epoch and predictions
included; beside it the seconds that the epochs alone took, and how many times the
first line of its table both are. The network is a small one, so that what is not the
network shows.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import Kept
from part import part


def measured(data: Path, size: int, members: int) -> dict[str, float]:
    """Seconds of one command, and of its epochs."""
    with tempfile.TemporaryDirectory() as work:
        words = [sys.executable, "-m", "ensemble", "train", "--arch", "customnet", "--data", str(data)]
        words += ["--image-size", str(size), "--epochs", "1", "--lr", "0.001", "--set", "filters=[16, 32, 64]"]
        words += [word for seed in range(members) for word in ("--seed", str(seed))]
        started = time.perf_counter()
        subprocess.run(words, cwd=work, capture_output=True, check=True, env={**os.environ, "XDG_CACHE_HOME": work})
        seconds, epochs = time.perf_counter() - started, 0.0
        for path in Path(work).glob("runs/*/history.csv"):
            with path.open() as file:
                epochs += sum(float(row["seconds"]) for row in csv.DictReader(file))
    return {"seconds": seconds, "epochs": epochs}


CASES = {
    "images x 1": (100, 32, 1),
    "images x 4": (400, 32, 1),
    "images x 16": (1600, 32, 1),
    "members x 1": (400, 32, 1),
    "members x 3": (400, 32, 3),
    "members x 9": (400, 32, 9),
    "side 32": (400, 32, 1),
    "side 64": (400, 64, 1),
    "side 128": (400, 128, 1),
}


def main() -> None:
    """Every line of the three tables, and how many times the first of its table it is."""
    source, kept = Path(sys.argv[1]), Kept(Path(sys.argv[2]) if len(sys.argv) > 2 else None)
    known: dict[tuple[int, int, int], dict[str, float]] = {}
    first: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        for case, keys in CASES.items():
            each, size, members = keys
            data = Path(name, str(each))
            if not data.is_dir():
                part(source, data, {"train": each, "valid": 20})
            if keys not in known:
                known[keys] = kept.of(case, lambda: measured(data, size, members))  # noqa: B023 — called at once
            row, base = known[keys], first.setdefault(case.split()[0], known[keys])
            ratios = {what: round(row[what] / base[what], 2) for what in row}
            kept.put(case, {**row, "images": 10 * each, "side": size, "members": members, "times": ratios})
            print(case, kept.figures[case], flush=True)


if __name__ == "__main__":
    main()
