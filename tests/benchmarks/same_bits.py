"""Whether two commits compute the same: real commands with the package of each, every file and stdout compared.

    python tests/benchmarks/same_bits.py COMMIT COMMIT [RESULT.json] [--keep FOLDER]

Each commit's package is in a virtual environment of its own, which takes its dependencies from the environment
that runs this script. Both run in a folder of the same name, one after the other, with one thread, float32 and the
default layout, as a probe of speed might choose otherwise the second time. Files whose bytes differ are compared
again without times, versions and commits, and each of them is named in the result.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import os
import re
import shutil
import site
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from machine import facts
from PIL import Image

from ensemble.core.files import write_json

ROOT = Path(__file__).parents[2]
FIXED = ["--set", "precision=float32", "--set", "layout=default", "--set", "batch_size=16"]
TIMES = {
    "created",
    "seconds",
    "at",
    "git_commit",
    "versions",
    "speed",
    "why",
    "bytes_per_second",
    "date",
    "resumed",
}
"""Keys of JSON and columns of CSV that hold times, versions, or facts of the clone."""
TEXTS = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?([+-]\d\d:\d\d|Z)?"), "<when>"),
    (re.compile(r"\b\d+(\.\d+)? ?(s|min|ms|h)\b"), "<how long>"),
    (re.compile(r"\b[0-9a-f]{40}(-dirty)?\b"), "<commit>"),
)
"""Patterns of times and commits in text, and the marks that replace them."""


def commands() -> Iterator[tuple[str, list[str]]]:
    """(name, arguments); `@NAME` stands for the last run id that the command of that name printed."""
    digits = ["train", "--image-size", "16", "--epochs", "1", "--lr", "0.01", *FIXED]
    photos = ["train", "--data", "photos", "--weights", "none", "--image-size", "32", *FIXED]
    yield "check", ["check", "--data", "photos", "--json"]
    yield "resnet18", [*digits, "--arch", "resnet18"]
    yield "customnet", [*digits, "--arch", "customnet", "--set", "mixing=mixup", "--set", "average=ema"]
    yield "speednet", [*digits, "--arch", "speednet", "--set", "optimizer=sgd", "--set", "schedule=triangle"]
    yield "combine", ["combine", "--name", "plain"]
    for rule in ("uniform", "log-odds", "logit-mean", "rank", "convex", "greedy", "per-class", "stack", "auto"):
        yield f"combine {rule}", ["combine", "--rule", rule, "--name", rule]
    yield "submit", ["submit", "@combine", "--format", "kaggle", "--out", "submission.csv"]
    yield "report", ["report", "@combine auto", "--out", "report.html"]
    yield "compare", ["compare", "--out", "compared"]
    yield "distill", ["distill", "@combine", "--arch", "customnet", "--epochs", "1", "--lr", "0.01", *FIXED]
    yield "predict", ["predict", "@combine", "photos/test", "--out", "predicted.csv"]
    yield "export", ["export", "@combine", "--out", "exported"]
    yield "ls", ["ls", "--json"]
    yield "export check", ["predict", "@customnet", "photos/test/stripes0.png", "--json", "--uncertain"]
    yield "weighted", [*photos, "--arch", "resnet18", "--epochs", "2", "--lr", "0.003", "--set", "sampler=weighted"]
    yield "folds", [*photos, "--arch", "customnet", "--epochs", "1", "--folds", "3", "--set", "loss=focal"]
    yield "refit", [*photos, "--arch", "customnet", "--epochs", "1", "--lr", "0.01", "--full"]
    yield "sweep", ["sweep", "sweep.yaml", "--data", "photos"]
    yield "explain", ["explain", "@weighted", "photos/test", "--out", "explained"]


SWEEP = """
defaults: {arch: customnet, weights: none, image_size: 32, epochs: 1, precision: float32, layout: default}
members: [customnet]
sweep: {grid: {lr: [0.01, 0.003], augment: [none, flip]}}
"""


def photographs(folder: Path) -> None:
    """Two classes in three splits, drawn from a seed."""
    draw = np.random.default_rng(0)
    for split, each in (("train", 24), ("valid", 12), ("test", 6)):
        for place, name in enumerate(("stripes", "spots")):
            target = folder / split / ("" if split == "test" else name)
            target.mkdir(parents=True, exist_ok=True)
            for number in range(each):
                y, x = np.mgrid[:40, :48]
                wave = np.sin(x / draw.uniform(2, 4)) if place else np.sin(x / 3) * np.sin(y / draw.uniform(2, 4))
                pixels = 128 + 80 * wave[..., None] * draw.uniform(0.3, 1, 3) + draw.normal(0, 12, (40, 48, 3))
                image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
                image.save(target / f"{name}{number}.png")


def environment(commit: str, work: Path) -> Path:
    """A virtual environment with the package of a commit; its Python."""
    source, place = work / "source", work / "venv"
    source.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(source)], input=archive, check=True)
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    (packages / "source.pth").write_text(f"{source}\n")
    return place / "bin" / "python"


def run(commit: str, work: Path, place: Path) -> dict[str, str]:
    """All commands in `place`, which is moved to work/files afterwards; stdout by command, with its exit code."""
    python = environment(commit, work)
    place.mkdir()
    photographs(place / "photos")
    (place / "sweep.yaml").write_text(SWEEP)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(place / "cache"), "PYTHONPATH": ""}
    env |= {"ENS_WEIGHTS": str(place), "HOME": str(place)}
    runs: dict[str, str] = {}
    printed = {}
    for name, words in commands():
        line = [runs[word[1:]] if word.startswith("@") else word for word in words]
        done = subprocess.run(
            [str(python), "-m", "ensemble", *line], cwd=place, env=env, capture_output=True, text=True
        )
        printed[name] = f"{done.returncode}\n{done.stdout}"
        ids = re.findall(r"^[\w-]+-[0-9a-f]{8}$", done.stdout, re.MULTILINE)
        runs[name] = ids[-1] if ids else ""
        print(f"{commit[:10]} {name}: exit code {done.returncode}", flush=True)
        if done.returncode:
            print(done.stderr[-400:], flush=True)
    place.rename(work / "files")
    return printed


def without_times(path: Path) -> Any:
    """The content of a file that should be equal: parsed, without times, or else its sha256."""
    data = path.read_bytes()
    if path.suffix == ".json":
        return _without(json.loads(data))
    if path.suffix == ".csv":
        rows = list(csv.DictReader(io.StringIO(data.decode())))
        return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]
    if path.suffix in (".html", ".md", ".txt", ".yaml", ""):
        return text_without(data.decode(errors="replace"))
    return hashlib.sha256(data).hexdigest()


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(inner) for key, inner in value.items() if key not in TIMES}
    if isinstance(value, list):
        return [_without(inner) for inner in value]
    return text_without(value) if isinstance(value, str) else value


def text_without(text: str) -> str:
    """With marks in place of times and commits."""
    for pattern, mark in TEXTS:
        text = pattern.sub(mark, text)
    return text


def compared(first: Path, second: Path) -> dict[str, Any]:
    """Counts and names: the same bytes, the same but for times, different, in one of them only."""
    files = [
        {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file() and kept(path, folder)}
        for folder in (first, second)
    ]
    both = sorted(set(files[0]) & set(files[1]))
    same, times, different = [], [], []
    for name in both:
        pair = [group[name] for group in files]
        if pair[0].read_bytes() == pair[1].read_bytes():
            same.append(name)
        elif without_times(pair[0]) == without_times(pair[1]):
            times.append(name)
        else:
            different.append(name)
    return {
        "same bytes": len(same),
        "same but for times": times,
        "different": different,
        "only in the first": sorted(set(files[0]) - set(files[1])),
        "only in the second": sorted(set(files[1]) - set(files[0])),
    }


def kept(path: Path, folder: Path) -> bool:
    """Whether a file is a result, and not a cache of speeds, fonts or decoded images."""
    return path.relative_to(folder).parts[0] not in ("cache", ".cache", ".config")


def main() -> None:
    """Run both and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commits", nargs=2)
    parser.add_argument("result", nargs="?", type=Path)
    parser.add_argument("--keep", type=Path, help="keep the files of both here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = args.keep or Path(temporary)
        printed = [run(commit, work / str(place), work / "place") for place, commit in enumerate(args.commits)]
        result = compared(work / "0" / "files", work / "1" / "files")
        result["stdout differs"] = [
            name for name in printed[0] if text_without(printed[0][name]) != text_without(printed[1].get(name, ""))
        ]
        failed = [name for name, text in printed[0].items() if not text.startswith("0\n")]
        if not args.keep:
            shutil.rmtree(work, ignore_errors=True)
    record = {"machine": facts(), "commits": args.commits, "failed": failed, **result, "left out": sorted(TIMES)}
    print(json.dumps(record, indent=1))
    if args.result:
        write_json(args.result, record)


if __name__ == "__main__":
    main()
