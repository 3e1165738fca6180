"""What ImageNet weights are worth: fine-tuning against the same network from scratch, at equal epochs.

    ENS_WEIGHTS=weights python tests/benchmarks/pretrained_against_scratch.py cifar10 --out result.json

DATA holds train/<class>/ and valid/<class>/; a part of it (so many images a class, the same for every run) is
linked into a temporary folder. Every member is trained by `ens train` itself. Prints validation accuracy by seed,
means, and the difference in points.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from part import part


def accuracy(data: Path, runs: Path, arch: str, weights: str, seed: int, args: argparse.Namespace) -> float:
    """Train one member; its validation accuracy."""
    frozen = 1 if weights == "imagenet" else 0
    command = [
        *(sys.executable, "-m", "ensemble", "--runs", str(runs), "train", "--arch", arch, "--data", str(data)),
        *("--weights", weights, "--seed", str(seed), "--image-size", str(args.size), "--lr", str(args.lr)),
        *("--frozen-epochs", str(frozen), "--epochs", str(args.epochs - frozen), "--set", "augment=flip-shift"),
    ]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    metrics = runs / done.stdout.split()[-1] / "metrics.json"
    return float(json.loads(metrics.read_text())["valid"]["accuracy"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--arch", action="append", help="default: mobilenet_v2 and squeezenet1_1")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4, help="in all; the first is the head's where pretrained")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--train", type=int, default=400, help="training images a class")
    parser.add_argument("--valid", type=int, default=200, help="validation images a class")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if "ENS_WEIGHTS" not in os.environ:
        parser.error("set ENS_WEIGHTS to the folder of <arch>.safetensors")
    results: dict[str, dict[str, list[float]]] = {}
    started = time.time()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        part(args.data, data, {"train": args.train, "valid": args.valid})
        for arch in args.arch or ["mobilenet_v2", "squeezenet1_1"]:
            result = results[arch] = {"imagenet": [], "none": []}
            for seed in range(args.seeds):
                for weights, values in result.items():
                    values.append(accuracy(data, Path(folder) / "runs", arch, weights, seed, args))
                    print(arch, weights, f"seed {seed}", f"{values[-1]:.4f}", flush=True)
            gain = 100 * (statistics.mean(result["imagenet"]) - statistics.mean(result["none"]))
            means = {weights: round(statistics.mean(values), 4) for weights, values in result.items()}
            print(f"{arch}: {means}, {gain:+.1f} points", flush=True)
    summary = {
        "accuracy": results,
        "epochs": args.epochs,
        "size": args.size,
        "lr": args.lr,
        "images_a_class": {"train": args.train, "valid": args.valid},
        "seconds": round(time.time() - started),
    }
    if args.out:
        args.out.write_text(json.dumps(summary, indent=2) + "\n")


if __name__ == "__main__":
    main()
