"""Fixtures for tests of weights: no internet, empty caches."""

from __future__ import annotations

import socket
import warnings
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module", autouse=True)
def quiet_imports() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("fastai.vision.learner")


@pytest.fixture(autouse=True)
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty caches, no $ENS_WEIGHTS, and a network that is away."""

    def away(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(socket, "getaddrinfo", away)
    for name in ("ENS_WEIGHTS", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """$ENS_WEIGHTS, empty."""
    path = tmp_path / "weights"
    path.mkdir()
    monkeypatch.setenv("ENS_WEIGHTS", str(path))
    return path
