"""Hostile uploads are refused; decoders are bounded and restarted."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers.bad_images import bad_images, many_scans, noise, odd_images, saved
from helpers.colour_model import RED, SQUARES, Colours, client_of, fine, send, soon_fine
from starlette.testclient import TestClient

from ensemble.serve.decoding import Decoder
from ensemble.serve.predictor import Limits, Reading


def test_hostile_files_are_refused_and_the_service_is_up(client: TestClient) -> None:
    files = bad_images()
    assert len(files) >= 40
    statuses = {}
    for name, body in files.items():
        answer = send(client, body, names=["x.png"])
        statuses[name] = answer.status_code
        assert answer.status_code in (400, 413, 415, 422), (name, answer.status_code, answer.text)
        message = answer.json()["error"]
        assert message and len(message.splitlines()) == 1 and "Traceback" not in message, name
    assert fine(client)
    expected = {
        "page.png": 415,
        "zip.png": 415,
        "a PNG of the largest sides": 413,
        "a PNG that unpacks to 64 megapixels": 413,
        "half a JPEG": 422,
        "an animated GIF": 422,
        "what lies behind is not known": 422,
        "nothing": 422,
    }
    assert {name: statuses[name] for name in expected} == expected


def test_odd_images_are_read(client: TestClient) -> None:
    expected = send(client, saved(noise(), "PNG")).json()["predictions"][0]["label"]
    for name, body in odd_images().items():
        answer = send(client, body, names=[name or "x"])
        assert answer.status_code == 200, (name, answer.text)
        (output,) = answer.json()["predictions"]
        assert output["label"] == expected and len(output["image"]) <= 255 and output["image"].isprintable()


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content-type": "application/json"}, b"{}", 415),
        ({}, RED, 415),
        ({"content-type": "image/png"}, RED, 415),
        ({"content-type": "multipart/form-data"}, b"--x", 400),
        ({"content-type": "multipart/form-data; boundary=x"}, b"", 400),
        ({"content-type": "multipart/form-data; boundary=x"}, b"nothing of the kind", 400),
        (
            {"content-type": "multipart/form-data; boundary=x"},
            b"--x\r\nContent-Disposition: form-data\r\n\r\n",
            400,
        ),
        (
            {"content-type": "multipart/form-data; boundary=x"},
            b'--x\r\nContent-Disposition: form-data; name="images"\r\n\r\ntext\r\n--x--\r\n',
            400,
        ),
        (
            {"content-type": "multipart/form-data; boundary=x"},
            b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n' + RED,
            400,
        ),
        (
            {"content-type": "multipart/form-data; boundary=x"},
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"y" * 20_000 + b"\r\n--x--\r\n",
            400,
        ),
        ({"content-type": "multipart/form-data; boundary=" + "x" * 300}, b"--x", 400),
    ],
)
def test_broken_requests_are_refused(
    client: TestClient, headers: Mapping[str, str], body: bytes, status: int
) -> None:
    answer = client.post("/predict", content=body, headers=dict(headers))
    assert answer.status_code == status, answer.text
    assert len(answer.json()["error"].splitlines()) == 1
    assert fine(client)


def test_limits_of_bytes_files_and_pixels(client: TestClient) -> None:
    assert send(client, bytes(2_000_001)).status_code == 413
    # by what it says, before a byte of it is looked at; and by what comes, where it says nothing
    form = {"content-type": "multipart/form-data; boundary=x"}
    pieces = (b"--x\r\n" + bytes(100_000) for _ in range(40))
    assert client.post("/predict", content=pieces, headers=form).status_code in (400, 413)
    assert send(client, *[RED] * 4).status_code == 200
    many = send(client, *[RED] * 5)
    assert many.status_code == 413 and "4 files" in many.json()["error"]
    assert send(client, *[RED] * 50).status_code == 413
    with client_of(Colours(), Limits(pixels=1000, decoders=1)) as small:
        assert small.get("/model").json()["limits"]["pixels"] == 1000
        large = send(small, RED)
        assert large.status_code == 413 and "1000 pixels" in large.json()["error"]
    assert fine(client)


def test_decoding_has_a_time_limit() -> None:
    """Nor does the next pay for the process that has to be begun again."""
    with client_of(Colours(), Limits(body=10_000_000, seconds=0.3, decoders=1)) as client:
        answer = send(client, many_scans())
        assert answer.status_code == 422 and "0.3 s" in answer.json()["error"]
        assert soon_fine(client)


def test_killed_decoder_is_restarted() -> None:
    reading = Reading(SQUARES, None, 1_000_000)
    decoder = Decoder(reading, 20)
    try:
        assert list(decoder.decode(RED)) == list(SQUARES)
        decoder.process.kill()
        assert list(decoder.decode(RED)) == list(SQUARES)
    finally:
        decoder.close()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not bound a process's memory")
def test_decoder_is_bounded_in_memory_and_writes_no_file(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from ensemble.serve.decoding import confine\nfrom ensemble.serve.predictor import Reading\n"
        "confine(Reading((), None, 1000))\n"
        "try: bytes(3 << 30); os._exit(1)\n"
        "except MemoryError: pass\n"
        "try: open(sys.argv[1], 'wb', 0).write(b'x' * 10); os._exit(2)\n"
        "except OSError: os._exit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "x")], check=False).returncode == 7
    assert not (tmp_path / "x").stat().st_size


def test_images_are_neither_logged_nor_written(
    client: TestClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    opened: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and watching and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            opened.append(str(arguments[0]))

    watching = True
    sys.addaudithook(hook)
    with caplog.at_level(logging.DEBUG):
        secret = "patient-4711.png"
        large = saved(noise(700, 700), "PNG")  # above the size at which forms are put on the disk
        assert len(large) > 1_200_000
        assert send(client, large, names=[secret]).status_code == 200
        assert send(client, b"broken", names=[secret]).status_code == 415
    watching = False
    out, err = capfd.readouterr()
    # the client of this test logs the address that it asks, and no name of a file
    assert secret not in caplog.text + out + err
    assert not opened and not list(tmp_path.iterdir())
