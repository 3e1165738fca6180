"""Photographs with something wrong in every split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image


def save_image(image: Image.Image, path: Path, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
