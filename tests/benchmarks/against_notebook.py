"""`ens train` against the notebook, end to end: same architecture, images, epochs, batch, threads and weights.

    python tests/benchmarks/against_notebook.py CIFAR10_FOLDER [--kept PAIRS.jsonl] [--arch resnet34 ...]

4,000 training images and 1,000 validation images at 64 pixels, one frozen epoch and four of everything, batches of
64. The notebook (`notebook.py`) gets the fastest of 0, 1 and 2 workers, found on one epoch; then three pairs, each
a notebook and an `ens train` in fresh processes, one after the other. Ratios are medians over pairs. `ens train`
starts with no store of images, and with the probe of its formats still to be made. What is done is kept in
PAIRS.jsonl, so that a stopped run goes on. Writes against_notebook.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from ensemble.files import write_json

HERE = Path(__file__).parent
ASKED = {"resnet34": 2.0, "densenet121": 2.0, "vgg19": 2.0, "efficientnet_b0": 1.5, "mobilenet_v2": 1.5}
TRAIN, VALID, SIZE, EPOCHS, BATCH, PAIRS = 4_000, 1_000, 64, 4, 64, 3


def sample(source: Path, folder: Path) -> None:
    """Every so many of the images of each class."""
    for split, count in (("train", TRAIN), ("valid", VALID)):
        classes = sorted(path for path in (source / split).iterdir() if path.is_dir())
        for label in classes:
            images = sorted(label.iterdir())
            each = count // len(classes)
            (folder / split / label.name).mkdir(parents=True)
            for path in images[:: len(images) // each][:each]:
                shutil.copy(path, folder / split / label.name / path.name)


def notebook(folder: Path, arch: str, workers: int, epochs: int = EPOCHS) -> dict[str, Any]:
    """One run of the notebook; the seconds include the start of Python."""
    started = time.perf_counter()
    keys = [folder, arch, SIZE, epochs, BATCH, workers]
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


def ens(folder: Path, arch: str, start: Path) -> dict[str, Any]:
    """One run of `ens train` in a folder of its own."""
    with tempfile.TemporaryDirectory() as work:
        words = [sys.executable, "-m", "ensemble", "train", "--arch", arch, "--data", str(folder), "--json"]
        words += [
            "--image-size",
            str(SIZE),
            "--frozen-epochs",
            "1",
            "--epochs",
            str(EPOCHS),
            "--batch-size",
            str(BATCH),
        ]
        words += ["--lr", "0.002", "--weights", str(start)]
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
    parser.add_argument("--kept", type=Path, default=Path("against_notebook.jsonl"))
    parser.add_argument("--arch", action="append")
    asked = parser.parse_args()
    kept = [json.loads(line) for line in asked.kept.read_text().splitlines()] if asked.kept.is_file() else []
    with tempfile.TemporaryDirectory() as name, asked.kept.open("a") as file:
        folder = Path(name)
        sample(asked.cifar10, folder / "data")
        for arch in asked.arch or ASKED:
            mine = [row for row in kept if row["arch"] == arch]
            if not mine:
                times = {count: notebook(folder / "data", arch, count, epochs=1)["seconds"] for count in (0, 1, 2)}
                mine.append({"arch": arch, "workers": min(times, key=lambda count: times[count]), "tried": times})
                file.write(json.dumps(mine[-1]) + "\n")
                file.flush()
                kept.append(mine[-1])
            start = weights(arch, folder)
            while len(mine) <= PAIRS:
                pair = {"arch": arch, "notebook": notebook(folder / "data", arch, mine[0]["workers"])}
                pair["ens"] = ens(folder / "data", arch, start)
                mine.append(pair)
                kept.append(pair)
                file.write(json.dumps(pair) + "\n")
                file.flush()
                print(arch, pair, flush=True)
    results = []
    for arch in ASKED:
        pairs = [row for row in kept if row["arch"] == arch and "ens" in row]
        if len(pairs) < PAIRS:
            continue
        ratios = [pair["notebook"]["seconds"] / pair["ens"]["seconds"] for pair in pairs]
        row = {"arch": arch, "ratio": statistics.median(ratios), "asked": ASKED[arch], "pairs": pairs}
        row["tried"] = next(row["tried"] for row in kept if row["arch"] == arch and "tried" in row)
        results.append(row)
        accuracies = {side: [round(pair[side]["accuracy"], 3) for pair in pairs] for side in ("notebook", "ens")}
        print(f"{arch:16s} {row['ratio']:.2f} x (asked {ASKED[arch]} x)  {accuracies}")
    machine = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    write_json(HERE / "against_notebook.json", {"machine": machine, "results": results})


if __name__ == "__main__":
    main()
