"""Which defaults fine-tune best: `ens train`, fastai's notebook, timm's and AutoGluon's settings, a linear probe.

    python tests/benchmarks/fine_tuning.py RESULT.json --cifar10 FOLDER --isic2017 FOLDER --weights FOLDER
        [--contender NAME ...] [--cell TEXT ...]
    python tests/benchmarks/fine_tuning.py RESULT.json --table

Every contender trains on the same images for the same epochs (one of the head and three of everything, or four in
all) and is scored on the same validation rows, which none of them sees while it trains. WEIGHTS holds
<arch>.safetensors of every network. Seconds are those of the whole process. What is done is kept, so that a stopped
run goes on; a contender that changes is measured again after `--again NAME`.
`ens@COMMIT` is the package of that commit, taken from git; `ens:quick` is `ens train --preset quick`, with as many
epochs as that says.
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

import numpy as np
from fine_tuning_cells import Cell, cells, make
from machine import facts

from ensemble.core.files import read_json, write_json

HERE = Path(__file__).parent
BEFORE = "ens@aae60a0"
CONTENDERS = ("ens", BEFORE, "notebook", "notebook-finder", "timm", "autogluon", "probe")
CLIP = 1e-7


def scores(probs: Any, targets: Any) -> dict[str, float]:
    """Accuracy, log-loss and the mean over classes of the area under the curve of one against the rest."""
    from sklearn.metrics import roc_auc_score

    rows = np.arange(len(targets))
    areas = [roc_auc_score(targets == k, probs[:, k]) for k in range(probs.shape[1])]
    return {
        "accuracy": round(float((probs.argmax(1) == targets).mean()), 4),
        "log_loss": round(float(-np.log(np.clip(probs[rows, targets], CLIP, 1)).mean()), 4),
        "roc_auc": round(float(np.mean(areas)), 4),
    }


def peer(name: str, cell: Cell, folder: Path, weights: Path, work: Path) -> dict[str, Any]:
    """Train one of the others."""
    out = work / "valid.npz"
    start = "none" if cell.scratch else str(weights / f"{cell.arch}.safetensors")
    words = [name, folder, cell.arch, cell.size, cell.epochs, cell.seed, start, out]
    started = time.perf_counter()
    command = [sys.executable, str(HERE / "fine_tuning_peer.py"), *map(str, words)]
    subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    with np.load(out) as file:
        return {**scores(file["probs"], file["targets"]), "seconds": round(seconds, 1)}


def ens(name: str, cell: Cell, folder: Path, weights: Path, work: Path) -> dict[str, Any]:
    """Train with the package, of today or of a commit."""
    commit, preset = name.partition("@")[2], name.partition(":")[2]
    source = checked_out(commit) if commit else HERE.parents[1]
    frozen = 0 if cell.scratch else 1
    words = ["train", "--arch", cell.arch, "--data", str(folder), "--image-size", str(cell.size), "--json"]
    words += ["--seed", str(cell.seed), "--frozen-epochs", str(frozen)]
    words += ["--preset", preset] if preset else ["--epochs", str(cell.epochs + 1 - frozen)]
    words += ["--weights", "none" if cell.scratch else str(weights / f"{cell.arch}.safetensors")]
    places = {"PYTHONPATH": str(source), "XDG_CACHE_HOME": str(work / "cache")}
    started = time.perf_counter()
    command = [sys.executable, "-m", "ensemble", "--runs", str(work / "runs"), *words]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, env={**os.environ, **places})
    if done.returncode:
        raise SystemExit(done.stderr)
    seconds = time.perf_counter() - started
    (row,) = json.loads(done.stdout)
    run = work / "runs" / row["run"]
    with np.load(run / "valid.npz") as file:
        result = scores(file["probs"], file["targets"])
    record = json.loads((run / "run.json").read_text())
    epochs = [line.split(",") for line in (run / "history.csv").read_text().splitlines()]
    head = {"frozen": float(epochs[frozen][epochs[0].index("valid_accuracy")])} if frozen else {}
    return {**result, **head, "seconds": round(seconds, 1), "auto": record["auto"], "rates": record["rates"]}


def checked_out(commit: str) -> Path:
    """The package as it was at a commit, in a folder that later calls use again."""
    folder = Path(tempfile.gettempdir()) / f"ens-{commit}"
    if not (folder / "ensemble").is_dir():
        folder.mkdir(exist_ok=True)
        archive = subprocess.run(
            ["git", "archive", commit, "ensemble"], cwd=HERE.parents[1], capture_output=True, check=True
        )
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


def table(results: dict[str, dict[str, Any]]) -> str:
    """Accuracy by cell and contender, and the means of the differences to `ens`, over cells that both have."""
    names = [name for name in CONTENDERS if any(name in row for row in results.values())]
    names += sorted({name for row in results.values() for name in row} - set(names))
    lines = [f"| cell | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for cell, row in results.items():
        lines.append(f"| {cell} | {' | '.join(_entry(row.get(name)) for name in names)} |")
    for other in names:
        pairs = [(row["ens"], row[other]) for row in results.values() if "ens" in row and other in row]
        if other != "ens" and pairs:
            points = [100 * (mine["accuracy"] - theirs["accuracy"]) for mine, theirs in pairs]
            loss = statistics.mean(mine["log_loss"] - theirs["log_loss"] for mine, theirs in pairs)
            ratio = statistics.mean(mine["seconds"] / theirs["seconds"] for mine, theirs in pairs)
            lines.append(
                f"ens against {other}: {len(pairs)} cells, mean {statistics.mean(points):+.2f} points, worst"
                f" {min(points):+.2f}, log-loss {loss:+.3f}, {ratio:.2f} times the seconds"
            )
    return "\n".join(lines)


def _entry(result: dict[str, Any] | None) -> str:
    return "" if result is None else f"{result['accuracy']:.3f} {result['log_loss']:.3f} {result['seconds']:.0f} s"


def main() -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path)
    parser.add_argument("--cifar10", type=Path)
    parser.add_argument("--isic2017", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--contender", action="append")
    parser.add_argument("--cell", action="append", help="part of a cell's name")
    parser.add_argument("--again", action="append", default=[], help="forget what this contender did")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    kept = read_json(args.result) if args.result.is_file() else {"machine": facts(), "results": {}}
    results: dict[str, dict[str, Any]] = kept["results"]
    for row in results.values():
        for name in args.again:
            row.pop(name, None)
    if args.table:
        print(table(results))
        return
    sources = {"cifar10": args.cifar10.resolve(), "isic2017": args.isic2017.resolve()}
    chosen = [cell for cell in cells() if not args.cell or any(text in cell.name for text in args.cell)]
    for cell in chosen:
        missing = [name for name in args.contender or CONTENDERS if name not in results.get(cell.name, {})]
        with tempfile.TemporaryDirectory() as work:
            if missing:
                make(cell, sources, Path(work) / "data")
            for name in missing:
                if name == "probe" and cell.scratch:
                    continue
                place = Path(work) / name.replace(":", "-")
                place.mkdir()
                train = ens if name.startswith("ens") else peer
                result = train(name, cell, Path(work) / "data", args.weights.resolve(), place)
                results.setdefault(cell.name, {})[name] = result
                write_json(args.result, kept)
                print(cell.name, name, result, flush=True)


if __name__ == "__main__":
    main()
