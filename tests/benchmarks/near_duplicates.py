"""How many planted near duplicates are found, how many of the pairs are right, how long 60,000 images take.

    python tests/benchmarks/near_duplicates.py [--seeds 101 102 103] [--images 60000] [--json RESULT.json]

Images: `tests/helpers/duplicate_factory.py`. The time is that of `ens check` on a folder of PNGs of 32 pixels,
page and all.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from machine import Kept

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.duplicate_factory import near_scores, scene

SIZES = (32, 64, 128, 256)
ASKED = {"recall": 0.95, "precision": 0.95, "seconds_for_60000": 60}


def seconds_of_check(count: int, size: int = 32) -> dict[str, float]:
    """Seconds of `ens check` on `count` scenes, the first time and again, and the load of the machine before."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        parts = [(str(root / "data"), seed, count // 100, size) for seed in range(100)]
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            list(pool.map(draw, parts))
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
        first, again = (_seconds(root) for _ in range(2))
    return {
        "images": count,
        "first": first[0],
        "first_of_all_cores": first[1],
        "again": again[0],
        "cores": os.cpu_count() or 1,
        "load_before": round(load, 2),
    }


def draw(part: tuple[str, int, int, int]) -> None:
    """Save a part of the scenes, half of it in each class, a fifth of it in valid."""
    folder, seed, count, size = part
    random = np.random.default_rng([seed, size])
    for number in range(count):
        split = "valid" if number % 5 == 0 else "train"
        path = Path(folder, split, "ab"[number % 2], f"{seed}-{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        scene(random, size).save(path)


def _seconds(root: Path) -> tuple[float, float]:
    """By the clock, and of all processors together: on a busy machine the clock says too much."""
    words = [sys.executable, "-m", "ensemble", "--runs", str(root / "runs"), "check", "--data", str(root / "data")]
    started, before = time.perf_counter(), os.times()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return round(time.perf_counter() - started, 1), round(used, 1)


def main() -> None:
    """Measure, print, and perhaps keep the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103])
    parser.add_argument("--sources", type=int, default=40)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--json", type=Path)
    requested = parser.parse_args()
    kept = Kept(requested.json)
    kept.put("asked", ASKED)
    kept.put("ImageHash", version("ImageHash"))
    for size in SIZES:
        for seed in requested.seeds:
            figures = kept.of(f"{size} px, seed {seed}", lambda: near_scores(size, seed, requested.sources))  # noqa: B023
            print(size, seed, figures)
    if requested.images:
        print(kept.of(f"{requested.images} images of 32 px", lambda: seconds_of_check(requested.images)))


if __name__ == "__main__":
    main()
