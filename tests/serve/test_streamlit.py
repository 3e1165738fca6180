"""The Streamlit page."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from helpers.processes import HEARS_SIGNALS
from helpers.repository import ROOT
from helpers.served import send_files

pytestmark = pytest.mark.slow


def test_streamlit_shows_what_the_service_says(
    served_runs: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    testing = pytest.importorskip("streamlit.testing.v1")
    page = ROOT / "ensemble" / "serve" / "streamlit_page.py"
    monkeypatch.setattr(sys, "argv", ["streamlit_page.py", address])
    (output,) = send_files(address, served_runs / "x.png").json()["predictions"]
    app = testing.AppTest.from_file(str(page), default_timeout=30).run()
    assert not app.exception and "medical" in app.warning[0].value
    app.file_uploader[0].set_value(("x.png", (served_runs / "x.png").read_bytes(), "image/png")).run()
    assert not app.exception and app.metric[0].value == output["label"]
    assert any("Entropy" in item.value for item in app.text)
    app.file_uploader[0].set_value(("x.png", b"no image", "image/png")).run()
    assert "not an image" in app.error[0].value
    monkeypatch.setattr(sys, "argv", ["streamlit_page.py", "http://127.0.0.1:1"])
    away = testing.AppTest.from_file(str(page), default_timeout=30).run()
    assert "ens serve" in away.error[0].value


def test_streamlit_ends_with_its_command(tmp_path: Path) -> None:
    pytest.importorskip("streamlit")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    begun = subprocess.Popen(
        [sys.executable, "-m", "ensemble.serve.streamlit_app", "http://127.0.0.1:1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **HEARS_SIGNALS,
    )
    health = f"http://127.0.0.1:{port}/_stcore/health"

    def answers() -> bool:
        try:
            return bool(requests.get(health, timeout=5).ok)
        except requests.ConnectionError:
            return False

    try:
        end = time.monotonic() + 60
        while not answers():
            assert begun.poll() is None and time.monotonic() < end
            time.sleep(0.2)
    finally:
        begun.terminate()
        begun.wait(30)
    assert not answers()
