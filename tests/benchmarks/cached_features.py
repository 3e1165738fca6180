"""What `cache_features` saves: a head alone on a frozen body that is asked once, against one asked in every epoch.

    ENS_WEIGHTS=weights python tests/benchmarks/cached_features.py CIFAR10_FOLDER [RESULT.json]

mobilenet_v2 with ImageNet weights, 2,000 training and 1,000 validation images at 96 pixels, ten epochs of the head,
no augmentation. For each of three seeds one member of each kind by `ens train`, in turns: how many times shorter
its epochs are in all (the median), and both validation accuracies.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import Kept
from part import part

SEEDS, KINDS = 3, ("true", "false")


def trained(data: Path, runs: Path, seed: int, cached: str) -> dict[str, float]:
    """Seconds of the epochs, and validation accuracy."""
    words = [sys.executable, "-m", "ensemble", "--runs", str(runs), "train", "--arch", "mobilenet_v2", "--json"]
    words += ["--data", str(data), "--image-size", "96", "--frozen-epochs", "10", "--epochs", "0", "--lr", "0.002"]
    words += ["--seed", str(seed), "--set", "augment=none", "--set", f"cache_features={cached}"]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    (row,) = json.loads(done.stdout)
    facts = json.loads((runs / row["run"] / "run.json").read_text())
    return {"seconds": facts["seconds"], "accuracy": row["valid"]["accuracy"]}


def main() -> None:
    """Every seed, both ways."""
    kept = Kept(Path(sys.argv[2]) if len(sys.argv) > 2 else None)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        data, runs = Path(name, "data"), Path(name, "runs")
        part(Path(sys.argv[1]), data, {"train": 200, "valid": 100}, spread=True)
        for seed in range(SEEDS):
            order = KINDS if seed % 2 else KINDS[::-1]
            row = {}
            for kind in order:
                row[kind] = kept.of(f"seed {seed}, {kind}", lambda s=seed, k=kind: trained(data, runs, s, k))  # type: ignore[misc]
            rows.append(row)
            print(f"seed {seed}: {row}", flush=True)
    result = {
        "faster": statistics.median(row["false"]["seconds"] / row["true"]["seconds"] for row in rows),
        "accuracy": {kind: [row[kind]["accuracy"] for row in rows] for kind in KINDS},
    }
    kept.put("mobilenet_v2", result)
    print(result)


if __name__ == "__main__":
    main()
