"""A part of a folder of images: so many of each class."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path


def part(source: Path, target: Path, each: Mapping[str, int], *, spread: bool = False) -> None:
    """Copy images of every class from <source>/<split>/<class> to the same below `target`.

    each: split -> images of a class.  spread: every so many of them by name, instead of the first.
    """
    for split, count in each.items():
        for folder in sorted(path for path in (source / split).iterdir() if path.is_dir()):
            images = sorted(folder.iterdir())
            (target / split / folder.name).mkdir(parents=True)
            for path in images[:: len(images) // count if spread else 1][:count]:
                shutil.copy(path, target / split / folder.name / path.name)
