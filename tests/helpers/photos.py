"""Images on disk: of one colour, of noise, and two classes that a small network can learn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def flat_image(path: Path, value: int, side: int = 4) -> Path:
    """An image of one colour: another value, another content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (value % 256, value // 256, 255 - value % 256)).save(path)
    return path


def flat_images(root: Path, *names: str) -> Path:
    """Images of one colour below `root`, no two alike."""
    for value, name in enumerate(names):
        flat_image(root / name, value)
    return root


def noise_image(path: Path, random: np.random.Generator, side: int = 32) -> Path:
    """An image of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
    return path


def noise_folders(
    root: Path,
    classes: Iterable[str] = ("cat", "dog"),
    each: int = 6,
    *,
    seed: int = 0,
    side: int = 12,
    name: str = "{}.png",
) -> Path:
    """A folder of noise for each class. name: of a file, for its number."""
    random = np.random.default_rng(seed)
    for label in classes:
        for number in range(each):
            noise_image(root / label / name.format(number), random, side)
    return root


def split_folders(
    root: Path, splits: Mapping[str, int], classes: Iterable[str], name: str = "{split} {number}.jpg"
) -> Path:
    """Noise of 32 pixels that nothing can tell apart. splits: the images of each class in each split."""
    random = np.random.default_rng(0)
    for split, each in splits.items():
        for label in classes:
            for number in range(each):
                noise_image(root / split / label / name.format(split=split, number=number), random)
    return root


def colour_folders(root: Path, each: int, seed: int) -> Path:
    """Red and blue images of 8 pixels with noise: a question that two filters can answer."""
    random = np.random.default_rng(seed)
    for label, channel in (("red", 0), ("blue", 2)):
        (root / label).mkdir(parents=True)
        for number in range(each):
            pixels = random.integers(0, 120, (8, 8, 3), dtype=np.uint8)
            pixels[..., channel] += 100
            Image.fromarray(pixels).save(root / label / f"{seed}-{number}.png")
    return root
