"""Fixtures of all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest
from helpers.photos import colour_folders

# runs are compared bit for bit, so the number of threads must not depend on what else the machine does
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, joblib.cpu_count() // _WORKERS)))


@pytest.fixture(scope="session", autouse=True)
def quick_disk() -> Iterator[None]:
    """fsync does nothing: no test cuts the power, and syncing thousands of small files takes minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache for the session, and none of the variables with which a user configures `ens`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        for name in ("ENS_RUNS", "NO_COLOR", "FORCE_COLOR"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache that no other test sees."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def photos(here: Path) -> Path:
    """`photos` in the working folder: of red and of blue images 16 to train on, 6 to validate, 4 to test."""
    for seed, (split, each) in enumerate((("train", 16), ("valid", 6), ("test", 4))):
        colour_folders(here / "photos" / split, each, seed)
    return here / "photos"
