"""Odd sizes and damaged files."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.checked_photos import save_image
from helpers.duplicate_factory import scene
from PIL import Image

from ensemble.check.files import Headers, oddities
from ensemble.cli import run as ens
from ensemble.data.detect_form import guess_spec
from ensemble.data.load import load_dataset


def test_odd_sizes_are_named() -> None:
    n = 9
    width, height = np.full(n, 200), np.full(n, 200)
    width[0], height[1], height[2] = 900, 10, 30
    headers = Headers(np.full(n, "PNG"), np.full(n, "RGB"), width, height)
    pictures = np.random.default_rng(0).integers(0, 255, (n, 32, 32, 3), np.uint8)
    output = oddities(headers, [f"{row}.png" for row in range(n)], pictures)
    assert set(output) == {0, 1, 2}
    assert "long and thin" in output[0] and "200 x 10 pixels" in output[1] and "far smaller" in output[2]


def test_damaged_jpeg_is_named(checked_photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Pillow reads such files without a word; a grey border all around is no damage."""
    random = np.random.default_rng(11)
    turned = Image.Exif()
    turned[0x0112] = 6
    for name, exif in (("cut", Image.Exif()), ("turned", turned)):
        content = io.BytesIO()
        scene(random, 96).save(content, "JPEG", exif=exif)
        data = content.getvalue()
        (checked_photos / f"train/ant/{name}.jpg").write_bytes(data[: len(data) * 4 // 5] + b"\xff\xd9")
    whole = Image.new("RGB", (96, 96), (128, 128, 128))
    whole.paste(scene(random, 60), (18, 18))
    save_image(whole, checked_photos / "train/ant/border.jpg")
    save_image(scene(random, 96), checked_photos / "train/ant/sound.jpg")
    assert ens(["check", "--data", "photos", "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    damaged = [name for name, why in result["odd"].items() if "may be damaged" in why]
    assert damaged == ["train/ant/cut", "train/ant/turned"]
    notes: list[str] = []
    (checked_photos / "train/ant/broken.png").unlink()
    for _ in range(2):  # read, then remembered
        load_dataset(guess_spec(checked_photos), Path("runs"), note=notes.append)
    lines = [line for line in notes if "may be damaged" in line]
    assert len(lines) == 2 and all("('train/ant/cut.jpg', 'train/ant/turned.jpg')" in line for line in lines)
    assert not any("metadata" in line for line in notes)
