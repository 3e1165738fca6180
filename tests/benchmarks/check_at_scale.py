"""How long `ens check` takes for many photographs that look alike, and which of the planted copies it finds.

    python tests/benchmarks/check_at_scale.py ISIC2017_FOLDER [RESULT.json] [--images 2750 10000] [--keep FOLDER]

A stand-in for dermoscopy at scale: the 2,750 photographs of ISIC 2017, each seen several times at 200 x 150 pixels,
turned by another angle each time, another part of it, at another scale, in other colours and with other noise, so
that views of one photograph are no near duplicates. One image in 25 is a copy of the one before it, changed in one
of the ways of `tests/helpers/duplicate_factory.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from machine import Kept
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.duplicate_factory import CHANGES

ASKED = {"seconds_for_10000": 60, "seconds_for_40000": 240, "gigabytes": 2}
SIZE = (200, 150)
ONE_IN = 25
"""Images of which one is a planted copy."""
TURN = 137.508
"""Degrees between two views of a photograph: 15 of them are at least 8 degrees apart, mirrored or not."""
PART = 250


def view(photographs: list[Path], number: int) -> Image.Image:
    """The look-alike `number`: a view of photograph `number` modulo their count."""
    random = np.random.default_rng([17, number])
    pixels = np.asarray(Image.open(photographs[number % len(photographs)]).convert("RGB"))
    middle = np.array(pixels.shape[1::-1]) / 2
    wide = Image.fromarray(np.pad(pixels, [(s, s) for s in pixels.shape[:2]] + [(0, 0)], "symmetric"))
    angle = np.deg2rad(TURN * (number // len(photographs)) + 7 * (number % len(photographs)))
    zoom = random.uniform(0.6, 1.1)
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    offset = 3 * middle + middle * random.uniform(-0.3, 0.3, 2) - turn @ (np.array(SIZE) / 2)
    seen = wide.transform(
        SIZE, Image.Transform.AFFINE, (*turn[0], offset[0], *turn[1], offset[1]), Image.Resampling.BICUBIC
    )
    field = np.asarray(seen) * random.uniform(0.9, 1.1, 3) + random.normal(
        0, random.uniform(1, 5), (*SIZE[::-1], 3)
    )
    return Image.fromarray(np.clip(field, 0, 255).astype(np.uint8))


def is_copy(number: int) -> bool:
    """Whether the image `number` is a planted copy of the one before it."""
    return number % ONE_IN == ONE_IN - 1


def change_of(number: int) -> str:
    """The way in which the copy `number` was changed."""
    return list(CHANGES)[number // ONE_IN % len(CHANGES)]


def draw(part: tuple[str, str, int, int]) -> None:
    """Save the images from a number to another, half in each class, a fifth in valid."""
    source, folder, start, end = part
    photographs = sorted(Path(source).glob("*.jpg"))
    for number in range(start, end):
        image = view(photographs, number - is_copy(number))
        if is_copy(number):
            image = CHANGES[change_of(number)](image, np.random.default_rng([18, number]))
        split = "valid" if number % 5 == 0 else "train"
        path = Path(folder, split, "ab"[number % 2], f"{number:06d}.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=92)


def draw_all(source: Path, folder: Path, count: int) -> None:
    """`count` look-alikes below `folder`, unless they are there."""
    if folder.is_dir() and sum(1 for _ in folder.rglob("*.jpg")) == count:
        return
    parts = [(str(source), str(folder), start, min(start + PART, count)) for start in range(0, count, PART)]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        list(pool.map(draw, parts))


def figures(data: Path, runs: Path, count: int) -> dict[str, Any]:
    """Seconds, gigabytes, recall and precision of `ens check` with nothing decoded before."""
    load = os.getloadavg()[0]
    words = [sys.executable, "-m", "ensemble", "--runs", str(runs), "check", "--data", str(data), "--json"]
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "images": count,
        "seconds": round(time.perf_counter() - started, 1),
        "processor_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "largest_process_gigabytes": round(after.ru_maxrss / 2**20, 2),
        "cores": os.cpu_count(),
        "load_before": round(load, 2),
        **recall_and_precision(json.loads(done.stdout)["pairs"], count),
    }


def recall_and_precision(pairs: list[list[Any]], count: int) -> dict[str, Any]:
    """Recall by kind, and what the other pairs are: of one photograph, or of two."""
    kinds = {tuple(sorted((int(a.split("/")[-1]), int(b.split("/")[-1])))): kind for _, a, _, b, kind, _ in pairs}
    wanted, hit = Counter[str](), Counter[str]()
    for number in filter(is_copy, range(count)):
        change = change_of(number)
        wanted[change] += 1
        hit[change] += kinds.pop((number - 1, number), "none") == ("mirrored" if "mirrored" in change else "near")
    shown = [{(number - is_copy(number)) % PHOTOGRAPHS for number in pair} for pair in kinds]
    item = sum(len(photographs) == 1 for photographs in shown)
    return {
        "planted": wanted.total(),
        "recall": {change: round(hit[change] / wanted[change], 4) for change in wanted},
        "recall_of_all": round(hit.total() / wanted.total(), 4),
        "pairs": len(pairs),
        "other_pairs_of_one_photograph": item,
        "other_pairs_of_two_photographs": len(shown) - item,
    }


PHOTOGRAPHS = 2750


def main() -> None:
    """Draw, measure, print, and perhaps keep the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("isic", type=Path)
    parser.add_argument("json", type=Path, nargs="?")
    parser.add_argument("--images", type=int, nargs="+", default=[2750, 10_000, 40_000])
    parser.add_argument("--keep", type=Path, help="where the images are drawn, for another time")
    parser.add_argument("--name", default="", help="put before the names of the figures, such as `before: `")
    requested = parser.parse_args()
    kept = Kept(requested.json)
    kept.put("asked", ASKED)
    for count in requested.images:
        with tempfile.TemporaryDirectory() as folder:
            data = (requested.keep or Path(folder)) / str(count)
            draw_all(requested.isic / "images", data, count)
            measure = lambda: figures(data, Path(folder, "runs"), count)  # noqa: B023, E731
            print(kept.of(f"{requested.name}{count} images of {SIZE[0]} x {SIZE[1]}", measure))


if __name__ == "__main__":
    main()
