"""Files that somebody might send to a service to bring it down, and images that only look as if."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    """The bytes of a file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def noise(width: int = 64, height: int = 48, mode: str = "RGB") -> Image.Image:
    """An image that does not compress."""
    random = np.random.default_rng(0)
    depth = len(Image.new(mode, (1, 1)).getbands())
    return Image.fromarray(random.integers(0, 256, (height, width, depth), dtype=np.uint8).squeeze(), mode)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes, rows: bytes = b"") -> bytes:
    """A grey PNG that says it is so large, with further chunks before its rows."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return PNG + header + b"".join(more) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG whose header says that it is so large."""
    plain = saved(noise(), "JPEG")
    at = plain.index(b"\xff\xc0")
    return plain[: at + 5] + struct.pack(">HH", height, width) + plain[at + 9 :]


def bmp_of(width: int, height: int) -> bytes:
    """A BMP whose header says that it is so large."""
    plain = saved(noise(), "BMP")
    return plain[:18] + struct.pack("<ii", width, height) + plain[26:]


def gif_of(width: int, height: int) -> bytes:
    """A GIF whose header says that it is so large."""
    plain = saved(noise().convert("P"), "GIF")
    return plain[:6] + struct.pack("<HH", width, height) + plain[10:]


def tiff_with(tag: int, kind: int, count: int, value: int) -> bytes:
    """A TIFF whose only directory holds one odd entry besides its size."""
    entries = [(256, 4, 1, 64), (257, 4, 1, 64), (tag, kind, count, value)]
    body = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + struct.pack("<I", 8)  # the next one is itself


def many_scans(side: int = 3000, times: int = 4000) -> bytes:
    """A progressive JPEG whose last scan comes again and again: a little file that takes minutes."""
    plain = saved(Image.new("RGB", (side, side), "grey"), "JPEG", progressive=True)
    last = plain.rindex(b"\xff\xda")
    return plain[:last] + plain[last:-2] * times + plain[-2:]


def animated(form: str) -> bytes:
    """Three frames."""
    frames = [noise(40 + i, 40 + i).resize((40, 40)) for i in range(3)]
    return saved(frames[0], form, save_all=True, append_images=frames[1:])


def zipped() -> bytes:
    """A zip of zeros."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.png", bytes(1_000_000))
    return file.getvalue()


def see_through(mode: str = "RGBA") -> Image.Image:
    """Half transparent all over."""
    image = noise().convert(mode)
    image.putalpha(128)
    return image


def bad_images(background: bool = False) -> dict[str, bytes]:
    """By name, files of which each must be refused; more than forty.

    background: whether it is known what lies behind transparent pixels, so that those are no reason.
    """
    picture = noise()
    whole = {form: saved(picture, form) for form in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")}
    clear = {
        "what lies behind is not known": saved(see_through(), "PNG"),
        "nor behind this": saved(see_through(), "WEBP", lossless=True),
    }
    float32 = saved(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF")
    return {
        "nothing": b"",
        "one byte": b"\xff",
        "zeros": bytes(100_000),
        "noise": np.random.default_rng(1).bytes(100_000),
        "text.png": b"this is a picture, believe me",
        "page.png": b"<!doctype html><script>alert(1)</script>",
        "drawing.png": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
        "laughs.png": b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "&b;&b;"><!ENTITY b "&a;">]><l>&a;</l>',
        "zip.png": zipped(),
        "gzip.jpg": gzip.compress(whole["PNG"]),
        "program.jpg": b"\x7fELF" + bytes(500),
        "program.exe": b"MZ" + bytes(500),
        "script.jpg": b"#!/bin/sh\nrm -rf /\n",
        "paper.jpg": b"%PDF-1.7\n1 0 obj << >> endobj",
        "postscript.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(ls) (w) file\n",
        "icon.png": saved(picture, "ICO"),
        "targa.png": saved(picture, "TGA"),
        "only the mark of a PNG": PNG,
        "half a PNG": whole["PNG"][: len(whole["PNG"]) // 2],
        "half a JPEG": whole["JPEG"][: len(whole["JPEG"]) // 2],
        "half a TIFF": whole["TIFF"][: len(whole["TIFF"]) // 2],
        "half a WebP": whole["WEBP"][: len(whole["WEBP"]) // 2],
        "half a PPM": whole["PPM"][: len(whole["PPM"]) // 2],
        "a JPEG without its tables": b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xd9",
        "a PNG of the largest sides": png(2**31 - 1, 2**31 - 1),
        "a PNG of no sides": png(0, 0),
        "a long PNG": png(2**31 - 1, 1),
        "a PNG that unpacks to 64 megapixels": png(8000, 8000, rows=bytes(8001 * 8000)),
        "a PNG with nothing in it": png(3000, 3000),
        "a PNG with a text that unpacks to 64 MB": png(
            9, 9, chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(64 << 20)))
        ),
        "a PNG with a chunk that is not what it says": PNG + struct.pack(">I", 2**31 - 1) + b"IHDR",
        "a JPEG of the largest sides": jpeg_of(65535, 65535),
        "a BMP of the largest sides": bmp_of(2**31 - 1, 2**31 - 1),
        "a BMP of negative sides": bmp_of(-(2**31), -(2**31)),
        "a GIF of the largest sides": gif_of(65535, 65535),
        "a PPM of the largest sides": b"P6 99999 99999 255\n",
        "a PPM with a number too long": b"P6 " + b"9" * 5000 + b" 1 255\n",
        "a TIFF whose next directory is itself": tiff_with(262, 3, 1, 1),
        "a TIFF with an entry of 16 GB": tiff_with(273, 12, 2**31 - 1, 8),
        "a TIFF with no bits": tiff_with(258, 3, 1, 0),
        "a TIFF of real numbers": float32,
        "a TIFF of three pages": animated("TIFF"),
        "an animated GIF": animated("GIF"),
        "an animated PNG": animated("PNG"),
        "an animated WebP": animated("WEBP"),
        **({} if background else clear),
    }


def odd_images() -> dict[str, bytes]:
    """By name, images that must be read all the same."""
    picture = noise()
    plain = saved(picture, "PNG")
    large = Image.Exif()
    large[0x010E] = "x" * 60_000
    broken = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(2000)
    return {
        "../../etc/passwd": plain,
        "<img src=x onerror=alert(1)>.png": plain,
        "a\nb\x1b[31m.png": plain,
        "": plain,
        "x" * 3000 + ".png": plain,
        "no extension": plain,
        "a PNG called.exe": plain,
        "a PNG and a zip.png": plain + zipped(),
        "EXIF as large as it can be.jpg": saved(picture, "JPEG", exif=large),
        "EXIF that is none.jpg": saved(picture, "JPEG", exif=broken),
        "Ünïcödé 图像.png": plain,
    }
