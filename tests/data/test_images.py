"""Reading one image: as its maker meant it, or refused by name."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers.layouts import loaded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ensemble.cli import run as ens
from ensemble.core.errors import DataError
from ensemble.data.images import ImageReader, problem_with, read_image

CAP = 1_000_000


RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def read(path: Path, *, cap: int = CAP, background: tuple[int, int, int] | None = None) -> np.ndarray:
    image = read_image(path, max_pixels=cap, background=background)
    assert image.mode == "RGB"
    return np.asarray(image)


def refusal(path: Path, *, cap: int = CAP) -> str:
    with pytest.raises(DataError) as caught:
        read_image(path, max_pixels=cap, background=None)
    message = str(caught.value)
    assert caught.value.exit_code == 3
    assert path.name in message and "\n" not in message
    assert problem_with(path, max_pixels=cap, background=None) in message
    return message


def quadrants() -> Image.Image:
    """Red, green over blue, white: every turn of it is another picture."""
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :16], pixels[:8, 16:], pixels[8:, :16], pixels[8:, 16:] = RED, GREEN, BLUE, WHITE
    return Image.fromarray(pixels)


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG by hand, for what Pillow does not write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), extra and chunk(b"tRNS", extra), chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
def test_every_orientation_is_undone(tmp_path: Path, turn: int, kind: str) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = quadrants().transpose(undo[turn]) if turn > 1 else quadrants()
    exif = Image.Exif()
    exif[0x0112] = turn
    path = tmp_path / f"turned.{kind}"
    lossless = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(kind, {})
    stored.save(path, exif=exif, **lossless)
    assert np.abs(read(path).astype(int) - np.asarray(quadrants())).max() <= 3


def test_16_bit_grey_keeps_its_high_byte(tmp_path: Path) -> None:
    wide = np.array([[0, 255, 256, 0x7FFF], [0x8000, 0xFE00, 0xFEFF, 0xFFFF]], np.uint16)
    expected = np.repeat((wide >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    for name in ("grey.png", "grey.tif"):
        Image.fromarray(wide).save(tmp_path / name)
        assert (read(tmp_path / name) == expected).all(), name
    (tmp_path / "grey.pgm").write_bytes(b"P5 4 2 65535\n" + wide.astype(">u2").tobytes())
    assert (read(tmp_path / "grey.pgm") == expected).all()


def test_16_bit_colour_keeps_its_high_byte(tmp_path: Path) -> None:
    wide = np.array([[0x12FF, 0x3400, 0xFFFF], [0x0001, 0x8000, 0xFF00]], ">u2")
    (tmp_path / "deep.png").write_bytes(png(2, 1, 16, 2, b"\0" + wide.tobytes()))
    assert read(tmp_path / "deep.png").tolist() == [[[0x12, 0x34, 0xFF], [0x00, 0x80, 0xFF]]]


def test_16_bit_grey_with_a_transparent_value(tmp_path: Path) -> None:
    wide = np.array([0x1234, 0x1235], ">u2")
    path = tmp_path / "clear.png"
    path.write_bytes(png(2, 1, 16, 0, b"\0" + wide.tobytes(), extra=struct.pack(">H", 0x1234)))
    assert "transparent" in refusal(path)
    assert read(path, background=RED).tolist() == [[list(RED), [0x12, 0x12, 0x12]]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_opaque_pngs_of_every_mode_keep_their_pixels(tmp_path: Path, mode: str) -> None:
    grey = Image.fromarray((np.indices((8, 8)).sum(0) % 2 * 255).astype(np.uint8))
    path = tmp_path / "image.png"
    grey.convert(mode).save(path)
    assert (read(path) == np.asarray(grey.convert("RGB"))).all()


def test_cmyk_from_adobe_is_not_inverted(tmp_path: Path) -> None:
    for name in ("ink.jpg", "ink.tif"):
        Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / name)
        assert np.abs(read(tmp_path / name).astype(int) - RED).max() <= 3, name


def transparent_images(folder: Path) -> list[Path]:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    clear.paste((*RED, 255), (0, 0, 2, 4))
    paletted = Image.new("P", (4, 4), 1)
    paletted.putpalette([9, 9, 9, *RED])
    paletted.paste(0, (2, 0, 4, 4))
    clear.save(folder / "rgba.png")
    clear.save(folder / "lossless.webp", lossless=True)
    paletted.save(folder / "palette.png", transparency=0)
    paletted.save(folder / "palette.gif", transparency=0)
    named = Image.new("RGB", (4, 4), RED)
    named.paste((1, 2, 3), (2, 0, 4, 4))
    named.save(folder / "named.png", transparency=(1, 2, 3))
    return sorted(folder.iterdir())


def test_transparent_pixels_need_a_background(tmp_path: Path) -> None:
    for path in transparent_images(tmp_path):
        message = refusal(path)
        assert "set data.background: [255, 255, 255]" in message
        pixels = read(path, background=GREEN)
        assert (pixels[:, :2] == RED).all() and (pixels[:, 2:] == GREEN).all(), path.name


def test_half_transparent_pixels_are_mixed(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (255, 0, 0, 128)).save(tmp_path / "half.png")
    assert read(tmp_path / "half.png", background=WHITE)[0, 0].tolist() == [255, 127, 127]


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tif"])
def test_animated_and_multi_page_files_are_refused(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN)]
    path = tmp_path / f"moving.{kind}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert "animated or has several pages" in refusal(path)


def test_mpo_is_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN)]
    path = tmp_path / "phone.jpg"
    frames[0].save(path, format="MPO", save_all=True, append_images=frames[1:])
    assert np.abs(read(path).astype(int) - RED).max() <= 3


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_pixels_are_refused(tmp_path: Path, dtype: type) -> None:
    Image.fromarray(np.full((4, 4), 7, dtype)).save(tmp_path / "deep.tif")
    assert "32-bit" in refusal(tmp_path / "deep.tif")


@pytest.mark.parametrize("side", [1_000, 20_000, 60_000])
def test_pixel_limit_is_checked_before_decoding(tmp_path: Path, side: int) -> None:
    """The data are missing altogether, so that only the header can have been read."""
    path = tmp_path / "bomb.png"
    path.write_bytes(png(side, side, 1, 0, b""))
    assert "pixels" in refusal(path, cap=999_999)


def test_pixel_limit_above_that_of_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("L", (32, 32)).save(tmp_path / "large.png")
    assert read(tmp_path / "large.png", cap=1024).shape == (32, 32, 3)
    assert "pixels" in refusal(tmp_path / "large.png", cap=1023)


@pytest.mark.parametrize("kind", ["jpg", "png", "gif", "bmp", "webp", "tif", "ppm"])
def test_truncated_files_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"cut.{kind}"
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        refusal(path)


def test_file_that_is_no_image_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "text.png").write_text("no image\nat all")
    (tmp_path / "program.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    (tmp_path / "loop.png").symlink_to("loop.png")
    result = {path.name: refusal(path) for path in [*tmp_path.iterdir(), tmp_path / "absent.png"]}
    assert "empty" in result["empty.png"] and "folder" in result["folder.png"]
    assert "known format" in result["text.png"] and "known format" in result["program.png"]
    assert "no such file" in result["absent.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipe_is_refused_as_an_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert "pipe" in refusal(tmp_path / "pipe.png")


def _samples() -> list[bytes]:
    result = []
    for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"):
        file = io.BytesIO()
        quadrants().save(file, kind)
        result.append(file.getvalue())
    return result


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(_samples()), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8))
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_give_an_image_or_a_data_error(
    tmp_path: Path, sample: bytes, damage: list[tuple[int, int]]
) -> None:
    broken = bytearray(sample)
    for place, value in damage:
        broken[place % len(broken)] = value
    path = tmp_path / "broken.img"
    path.write_bytes(broken)
    try:
        assert read_image(path, max_pixels=CAP, background=WHITE).mode == "RGB"
    except DataError as error:
        assert "broken.img" in str(error)


def test_image_reader_works_in_a_fresh_process(tmp_path: Path) -> None:
    quadrants().save(tmp_path / "a.png")
    reader = ImageReader(str(tmp_path), CAP)
    code = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read())('a.png').size)"
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(reader), capture_output=True, check=True)
    assert done.stdout.strip() == b"(32, 16)"


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_twelve_bits_in_sixteen_are_named(ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    for i in range(16):
        path = Path("d/train", "ab"[i % 2], f"{i}.{ending}")
        path.parent.mkdir(parents=True, exist_ok=True)
        values = random.integers(0, 4096 if i < 12 else 65536, (8, 8)).astype(np.uint16)
        Image.fromarray(values).save(path)
    notes = loaded(Path("d"))[2]
    assert len(notes) == 1 and "16-bit images" in notes[0] and "multiply" in notes[0]
    assert ens(["check", "--data", "d"]) == 0
    out = capsys.readouterr().out
    assert "! 12 16-bit files have no value above 4095" in out and "nothing to do" not in out
    for path in Path("d").rglob(f"*.{ending}"):
        Image.fromarray(random.integers(0, 65536, (8, 8)).astype(np.uint16)).save(path)
    assert loaded(Path("d"))[2] == []
