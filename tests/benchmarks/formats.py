"""What a numeric format does to accuracy and to speed: the same members in each, over several seeds.

    python tests/benchmarks/formats.py CIFAR10_FOLDER [RESULT.json] [--seeds 3] [--train 800]

`speednet` from scratch, `ens train` itself, in float32 and in bfloat16. For each seed the difference in validation
accuracy, bfloat16 less float32, with its standard error over the seeds, beside the standard deviation between the
seeds of one format; and float32's seconds by bfloat16's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import Kept
from part import part

FORMATS = ("float32", "bfloat16")
KEYS = {
    "batch_size": 500,
    "optimizer": "sgd",
    "momentum": 0.85,
    "bias_lr": 64,
    "weight_decay": 0.009,
    "label_smoothing": 0.2,
    "schedule": "triangle",
    "average": "lookahead",
    "augment": "alternate",
    "layout": "channels_last",
    "epochs": 8,
    "valid_every": 8,
    "lr": 1.0,
}


def trained(data: Path, runs: Path, seed: int, precision: str) -> dict[str, float]:
    """Validation accuracy and seconds of one member."""
    words = [sys.executable, "-m", "ensemble", "--runs", str(runs), "train", "--arch", "speednet", "--json"]
    words += ["--data", str(data), "--weights", "none", "--image-size", "32", "--seed", str(seed)]
    for key, value in {**KEYS, "precision": precision}.items():
        words += ["--set", f"{key}={value}"]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    (row,) = json.loads(done.stdout)
    facts = json.loads((runs / row["run"] / "run.json").read_text())
    return {"accuracy": row["valid"]["accuracy"], "seconds": facts["seconds"]}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Differences over the seeds."""
    gains = [row["bfloat16"]["accuracy"] - row["float32"]["accuracy"] for row in rows]
    return {
        "bfloat16 less float32": statistics.mean(gains),
        "standard error": statistics.stdev(gains) / len(gains) ** 0.5,
        "between seeds": {name: statistics.stdev(row[name]["accuracy"] for row in rows) for name in FORMATS},
        "faster": statistics.median(row["float32"]["seconds"] / row["bfloat16"]["seconds"] for row in rows),
    }


def main() -> None:
    """Every seed in both formats, in turns."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cifar10", type=Path)
    parser.add_argument("result", type=Path, nargs="?")
    parser.add_argument("--seeds", type=int, default=3, help="two or more")
    parser.add_argument("--train", type=int, default=800, help="training images a class")
    requested = parser.parse_args()
    kept = Kept(requested.result)
    with tempfile.TemporaryDirectory() as name:
        data, runs = Path(name, "data"), Path(name, "runs")
        part(requested.cifar10, data, {"train": requested.train, "valid": 500})
        rows = []
        for seed in range(requested.seeds):
            order = FORMATS if seed % 2 else FORMATS[::-1]
            row = {
                precision: kept.of(
                    f"seed {seed}, {precision}, {requested.train} a class",
                    lambda seed=seed, precision=precision: trained(data, runs, seed, precision),  # type: ignore[misc]
                )
                for precision in order
            }
            rows.append(row)
            print(f"seed {seed}: {row}", flush=True)
    kept.put("speednet", summary(rows))
    print(kept.figures["speednet"])


if __name__ == "__main__":
    main()
