"""How `ens train` grows: with images (x 1, x 4, x 16), with members (1, 3, 9), with the images' size.

    python tests/benchmarks/growth.py CIFAR10_FOLDER [RESULT.json]

Each line is one command in a folder of its own, start of Python, checks, store, probe, one epoch and predictions
included; beside it the seconds that the epochs alone took. The network is a small one, so that what is not the
network shows.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ensemble.files import write_json


def sample(source: Path, folder: Path, each: int) -> None:
    """`each` images of every class to train on, 20 to validate on."""
    for split, count in (("train", each), ("valid", 20)):
        for label in sorted(path for path in (source / split).iterdir() if path.is_dir()):
            (folder / split / label.name).mkdir(parents=True)
            for path in sorted(label.iterdir())[:count]:
                shutil.copy(path, folder / split / label.name / path.name)


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


def main() -> None:
    """Every line of the three tables."""
    source, results = Path(sys.argv[1]), []
    cases = [(100, 32, 1), (400, 32, 1), (1600, 32, 1), (400, 32, 3), (400, 32, 9), (400, 64, 1), (400, 128, 1)]
    with tempfile.TemporaryDirectory() as name:
        for each, size, members in cases:
            data = Path(name, str(each))
            if not data.is_dir():
                sample(source, data, each)
            row: dict[str, Any] = {"images": 10 * each, "size": size, "members": members}
            row |= measured(data, size, members)
            results.append(row)
            print(row, flush=True)
    if len(sys.argv) > 2:
        write_json(Path(sys.argv[2]), results)


if __name__ == "__main__":
    main()
