"""Whether another decoder gives Pillow's pixels, and how fast it is.

    python tests/benchmarks/decoders.py IMAGES_FOLDER [RESULT.json] [--count 200]

Images below the folder, spread evenly over their names, each decoded to RGB from bytes in memory by Pillow and by
torchvision's own reader (libjpeg-turbo and libpng), in turns, by one thread. Given are the share of images with the
same pixels, the largest and the mean difference of a value (0 to 255), and Pillow's seconds by the other's, the
median of five turns. Only decoding is timed: no orientation, no resizing.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import Kept
from PIL import Image
from torchvision.io import ImageReadMode, decode_image

Pixels = Any
TURNS = 5
SUFFIXES = {".jpg", ".jpeg", ".png"}


def by_pillow(content: bytes) -> Pixels:
    """uint8 (h, w, 3)."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def by_torchvision(content: bytes) -> Pixels:
    """uint8 (h, w, 3)."""
    flat = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    return decode_image(flat, mode=ImageReadMode.RGB).permute(1, 2, 0).numpy()


def seconds(decode: Callable[[bytes], Pixels], contents: list[bytes]) -> float:
    """Of decoding all of them."""
    started = time.perf_counter()
    for content in contents:
        decode(content)
    return time.perf_counter() - started


def compared(decode: Callable[[bytes], Pixels], contents: list[bytes]) -> dict[str, float]:
    """One decoder beside Pillow."""
    pillow, other = [], []
    for _ in range(TURNS):
        pillow.append(seconds(by_pillow, contents))
        other.append(seconds(decode, contents))
    apart = [np.abs(by_pillow(content).astype(int) - decode(content)) for content in contents]
    return {
        "same": sum(not each.any() for each in apart) / len(apart),
        "largest": max(int(each.max()) for each in apart),
        "mean": statistics.mean(float(each.mean()) for each in apart),
        "faster": statistics.median(first / second for first, second in zip(pillow, other, strict=True)),
        "milliseconds": 1000 * statistics.median(pillow) / len(contents),
    }


def main() -> None:
    """Print and perhaps keep the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("result", type=Path, nargs="?")
    parser.add_argument("--count", type=int, default=200)
    requested = parser.parse_args()
    torch.set_num_threads(1)
    paths = sorted(path for path in requested.folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    chosen = paths[:: max(1, len(paths) // requested.count)][: requested.count]
    contents = [path.read_bytes() for path in chosen]
    size = Image.open(chosen[0]).size
    what = f"{len(contents)} {chosen[0].suffix[1:]} of {size[0]} x {size[1]}"
    kept = Kept(requested.result)
    row = kept.of(f"torchvision, {what}", lambda: compared(by_torchvision, contents))
    print(f"torchvision, {what}: {row}")


if __name__ == "__main__":
    main()
