"""`ens train` against the notebook, end to end: same architecture, images, epochs, batch, threads and weights.

    python tests/benchmarks/against_notebook.py CIFAR10_FOLDER [RESULT.json] [--arch resnet34 ...] [--size 64]

4,000 training images and 1,000 validation images at 64 pixels, one frozen epoch and four of everything (two for
vgg19, whose notebook is slow), batches of 64. The notebook (`notebook.py`) gets the fastest of 0, 1 and 2 workers,
found with a quarter of the images; then three pairs, each a notebook and an `ens train` in fresh processes, one
after the other. Ratios are medians over pairs. `ens train` starts with no store of images, and with the probe of
its formats still to be made. Both take a GPU where there is one. The two of a pair take turns at being the first.
What is done is kept in RESULT.json, so that a stopped run goes on.
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
from typing import Any

import torch
from machine import Kept
from part import part

HERE = Path(__file__).parent
ASKED = {"resnet34": 2.0, "densenet121": 2.0, "vgg19": 2.0, "efficientnet_b0": 1.5, "mobilenet_v2": 1.5}
ON_GPU = 5.0
EPOCHS = dict.fromkeys(ASKED, 4) | {"vgg19": 2}
TRAIN, VALID, CLASSES, BATCH, PAIRS = 4_000, 1_000, 10, 64, 3


def notebook(folder: Path, arch: str, size: int, workers: int, epochs: int) -> dict[str, Any]:
    """One run of the notebook; the seconds include the start of Python."""
    started = time.perf_counter()
    keys = [folder, arch, size, epochs, BATCH, workers]
    words = [sys.executable, str(HERE / "notebook.py"), *map(str, keys)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return {**json.loads(done.stdout.splitlines()[-1]), "seconds": time.perf_counter() - started}


def weights(arch: str, folder: Path) -> Path:
    """A file of random weights, so that `ens train` fine-tunes them as the notebook does."""
    import safetensors.torch
    from torchvision import models

    torch.manual_seed(0)
    path = folder / f"{arch}.safetensors"
    state = getattr(models, arch)(weights=None).state_dict()
    safetensors.torch.save_file({name: value.contiguous() for name, value in state.items()}, path)
    return path


def ens(folder: Path, arch: str, size: int, start: Path) -> dict[str, Any]:
    """One run of `ens train` in a folder of its own."""
    with tempfile.TemporaryDirectory() as work:
        words = [sys.executable, "-m", "ensemble", "train", "--arch", arch, "--data", str(folder), "--json"]
        words += ["--image-size", str(size), "--frozen-epochs", "1", "--epochs", str(EPOCHS[arch])]
        words += ["--batch-size", str(BATCH), "--lr", "0.002", "--weights", str(start)]
        started = time.perf_counter()
        done = subprocess.run(
            words, cwd=work, capture_output=True, text=True, check=True, env={**os.environ, "XDG_CACHE_HOME": work}
        )
        seconds = time.perf_counter() - started
        (row,) = json.loads(done.stdout)
        facts = json.loads((Path(work) / "runs" / row["run"] / "run.json").read_text())
    return {"seconds": seconds, "accuracy": row["valid"]["accuracy"], "format": facts["auto"]["format"]}


def main() -> None:
    """Run what is missing, then write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cifar10", type=Path)
    parser.add_argument("result", type=Path, nargs="?")
    parser.add_argument("--arch", action="append", choices=list(ASKED))
    parser.add_argument("--size", type=int, default=64)
    requested = parser.parse_args()
    kept = Kept(requested.result)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        for name, share in (("data", 1), ("quarter", 4)):
            each = {"train": TRAIN // CLASSES // share, "valid": VALID // CLASSES // share}
            part(requested.cifar10, folder / name, each, spread=True)
        for arch in requested.arch or ASKED:
            print(arch, compare(arch, requested.size, folder, kept), flush=True)


def compare(arch: str, size: int, folder: Path, kept: Kept) -> dict[str, Any]:
    """The ratio of one architecture: the median over the pairs."""
    name = arch if size == 64 else f"{arch} at {size} px"
    data, few, start = folder / "data", folder / "quarter", weights(arch, folder)
    tried = {
        count: kept.of(
            f"{name}, a quarter, {count} workers",
            lambda n=count: notebook(few, arch, size, n, epochs=1)["seconds"],
        )
        for count in (0, 1, 2)
    }
    workers = min(tried, key=lambda count: tried[count])

    def pair(number: int) -> dict[str, Any]:
        runs = {
            "notebook": lambda: notebook(data, arch, size, workers, EPOCHS[arch]),
            "ens": lambda: ens(data, arch, size, start),
        }
        order = list(runs) if number % 2 else list(reversed(runs))
        return {side: runs[side]() for side in order}

    pairs = [kept.of(f"{name} pair {number}", lambda n=number: pair(n)) for number in range(1, PAIRS + 1)]
    row = {
        "ratio": statistics.median(pair["notebook"]["seconds"] / pair["ens"]["seconds"] for pair in pairs),
        "asked": ON_GPU if "gpu" in kept.machine else ASKED[arch],
        "epochs": [1, EPOCHS[arch]],
        "workers": workers,
        "seconds": {side: [round(pair[side]["seconds"], 1) for pair in pairs] for side in ("notebook", "ens")},
        "accuracy": {side: [round(pair[side]["accuracy"], 4) for pair in pairs] for side in ("notebook", "ens")},
    }
    kept.put(name, row)
    return row


if __name__ == "__main__":
    main()
