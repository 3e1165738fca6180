"""Images that only their metadata spoil are read; broken pixels never are."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ensemble.data.image_problems import without_metadata
from ensemble.data.images import decode_with_remark, problem_with, read_image
from ensemble.data.load import load_dataset
from ensemble.recipe.data_spec import DataSpec

PIXELS = np.arange(40 * 30 * 3, dtype=np.uint8).reshape(30, 40, 3)


SIZE = 10**6


TURNED = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
"""An EXIF block that says: turn by 90 degrees."""


def saved(form: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, form, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks: bytes, before: bytes = b"IDAT") -> bytes:
    plain = saved("PNG")
    place = plain.index(before) - 4
    return plain[:place] + b"".join(chunks) + plain[place:]


def segment(kind: int, body: bytes) -> bytes:
    return bytes([0xFF, kind]) + struct.pack(">H", len(body) + 2) + body


def jpeg(*segments: bytes) -> bytes:
    plain = saved("JPEG")
    return plain[:2] + b"".join(segments) + plain[2:]


LARGE = zlib.compress(b"a" * 2_000_000)


BROKEN = {
    "exif": png(chunk(b"eXIf", b"this is no TIFF")),
    "exif of ImageMagick": png(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 10\nzz"))),
    "large profile": png(chunk(b"iCCP", b"x\0\0" + LARGE)),
    "profile of an unknown method": png(chunk(b"iCCP", b"x\0\5")),
    "large text": png(chunk(b"zTXt", b"k\0\0" + LARGE)),
    "large international text": png(chunk(b"iTXt", b"k\0\1\0\0\0" + LARGE)),
    "short resolution": png(chunk(b"pHYs", b"1")),
    "short gamma": png(chunk(b"gAMA", b"1")),
    "short JFIF": jpeg(segment(0xE0, b"JFIF\0\1")),
    "short Adobe": jpeg(segment(0xEE, b"Adobe\0")),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_metadata_alone_is_no_error(what: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(BROKEN[what])
    plain = tmp_path / "plain"
    plain.write_bytes(saved("JPEG" if BROKEN[what][:2] == b"\xff\xd8" else "PNG"))
    assert problem_with(path, max_pixels=SIZE, background=None) is None
    read, expected = (read_image(each, max_pixels=SIZE, background=None) for each in (path, plain))
    assert np.array_equal(np.asarray(read), np.asarray(expected))
    _, remark = decode_with_remark(io.BytesIO(BROKEN[what]), max_pixels=SIZE, background=None)
    assert remark is not None and ("metadata" in remark or "EXIF" in remark)


@pytest.mark.parametrize(
    "content",
    [
        png(chunk(b"eXIf", TURNED[6:]), chunk(b"zTXt", b"k\0\0" + LARGE)),
        jpeg(segment(0xE1, TURNED), segment(0xE0, b"JFIF\0")),
    ],
    ids=["png", "jpeg"],
)
def test_orientation_is_used_beside_broken_metadata(content: bytes) -> None:
    image, remark = decode_with_remark(io.BytesIO(content), max_pixels=SIZE, background=None)
    assert image.size == (30, 40) and remark


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_sound_images_have_no_remark(form: str) -> None:
    content = saved(form, exif=TURNED)
    image, remark = decode_with_remark(io.BytesIO(content), max_pixels=SIZE, background=None)
    assert image.size == (30, 40) and remark is None


@given(st.data())
def test_truncated_image_with_metadata_is_refused(data: st.DataObject) -> None:
    content = data.draw(st.sampled_from(sorted(BROKEN.values())))
    pixels = content.index(b"IDAT") if content.startswith(b"\x89PNG") else content.index(b"\xff\xda")
    cut = content[: data.draw(st.integers(0, (pixels + len(content)) // 2))]
    with pytest.raises(Exception, match=r"broken|empty|known format"):
        decode_with_remark(io.BytesIO(cut), max_pixels=SIZE, background=None)


@given(st.binary(max_size=200))
def test_metadata_of_any_bytes_can_be_stripped(content: bytes) -> None:
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8"):
        without_metadata(start + content)


def test_images_with_broken_metadata_are_noted(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        for row in range(5):
            path = tmp_path / "photos" / "train" / label / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (4, 4), row + 10 * (label == "dog")).save(path)
    (tmp_path / "photos" / "train" / "cat" / "0.png").write_bytes(BROKEN["exif"])
    spec = DataSpec(form="folders", path=str(tmp_path / "photos"))
    for _ in range(2):  # read, then remembered
        notes: list[str] = []
        load_dataset(spec, tmp_path / "runs", note=notes.append)
        (note,) = [text for text in notes if "metadata" in text]
        assert note.startswith(
            "1 of 10 images are read in spite of their metadata: train/cat/0.png has an EXIF block"
        )


def test_warnings_of_pillow_name_the_image(tmp_path: Path) -> None:
    """In a process of its own, as pytest has warnings shown by itself."""
    for name, content in (
        ("cut exif", png(chunk(b"eXIf", b"Exif\0\0II*\0\xff\xff\xff\xff"), before=b"IEND")),
        ("preview", jpeg(segment(0xE2, b"MPF\0garbage"))),
        ("sound", saved("PNG")),
    ):
        (tmp_path / name).write_bytes(content)
    code = (
        "import sys\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from ensemble.data.images import decode_with_remark\n"
        "def remark(name):\n"
        "    with open(name, 'rb') as file:\n"
        "        return decode_with_remark(file, max_pixels=10**6, background=None)[1]\n"
        "names = ['cut exif', 'preview', 'sound'] * 20\n"
        "with ThreadPoolExecutor(4) as pool:\n"
        "    print(*sorted({f'{name}: {said}' for name, said in zip(names, pool.map(remark, names))}), sep='\\n')\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stderr == ""
    cut, preview, sound = run.stdout.splitlines()
    assert "(Corrupt EXIF data" in cut and "malformed MPO" in preview
    assert sound == "sound: None"
