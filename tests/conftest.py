"""Fixtures of all tests."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import ensemble as ens
    from ensemble.runs.run import Run


def pytest_configure(config: pytest.Config) -> None:
    """Runs are compared bit for bit, so the number of threads must not depend on what else the machine does.

    It is set before numpy and torch are imported, which read it once. Nor does an example of hypothesis fail
    because the machine is busy.
    """
    import joblib
    from hypothesis import settings

    settings.register_profile("tests", deadline=None)
    settings.load_profile("tests")
    workers = getattr(config.option, "numprocesses", None) or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, joblib.cpu_count() // workers)))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The default run does not import modules whose every test is slow: timm alone takes seconds."""
    if config.option.markexpr != "not slow and not gpu" or collection_path.suffix != ".py":
        return None
    return True if "\npytestmark = pytest.mark.slow\n" in collection_path.read_text(encoding="utf-8") else None


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
    from helpers.photos import colour_folders

    for seed, (split, each) in enumerate((("train", 16), ("valid", 6), ("test", 4))):
        colour_folders(here / "photos" / split, each, seed)
    return here / "photos"


@pytest.fixture
def torch() -> Any:
    """torch, seeded, after fastai's imports, which warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("fastai.vision.learner")
    import torch

    torch.manual_seed(0)
    return torch


@pytest.fixture
def two_networks(here: Path) -> Run:
    """An ensemble of two networks in `runs` of the working folder."""
    from helpers.fake_runs import member

    from ensemble.combine.ensembler import combine

    folder = Path("runs")
    return combine([member(folder, "resnet18-aaaaaaaa", 1), member(folder, "vgg11-bbbbbbbb", 2)], folder=folder).run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder for runs, which is not there yet."""
    return tmp_path / "runs"


@pytest.fixture
def quick_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ensembles that are cross-fitted once."""
    monkeypatch.setattr("ensemble.combine.crossfit.MOST_REPEATS", 1)


@pytest.fixture
def project(here: Path) -> ens.Project:
    """Three members of the data that the newest run is of."""
    from helpers.fake_runs import member

    import ensemble as ens

    folder = Path("runs")
    for name, seed in (("resnet18-aaaaaaaa", 1), ("vgg11-bbbbbbbb", 2), ("alexnet-cccccccc", 3)):
        member(folder, name, seed)
    return ens.Project(runs=folder, listener=ens.Listener())


@pytest.fixture
def checked_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of 12 and 8, and in every split something wrong."""
    import numpy as np
    from helpers.checked_photos import save_image
    from helpers.duplicate_factory import scene
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(7)
    root = tmp_path / "photos"
    for split, each in (("train", (12, 8)), ("valid", (4, 4)), ("test", (3, 3))):
        for name, count in zip(("ant", "bee"), each, strict=True):
            for number in range(count):
                save_image(scene(random, 96), root / split / name / f"{split}{number}.png")
    ant = Image.open(root / "train/ant/train0.png")
    (root / "test/ant/same.png").write_bytes((root / "train/ant/train0.png").read_bytes())
    save_image(ant, root / "valid/bee/again.jpg", quality=85)
    save_image(Image.open(root / "train/bee/train1.png").transpose(0), root / "test/bee/turned.png")
    save_image(Image.new("RGB", (96, 96), (9, 9, 9)), root / "train/bee/black.png")
    save_image(scene(random, 96).resize((400, 60)), root / "train/bee/long.png")
    save_image(scene(random, 96), root / "train/bee/wrong.png", format="JPEG")
    (root / "train/ant/broken.png").write_bytes(b"no image")
    (root / "train/ant/notes.txt").write_text("not an image")
    return root


@pytest.fixture
def numbered_images(here: Path) -> Path:
    """Eight images in `d/images` of the working folder."""
    from helpers.layouts import draw

    return draw(*[f"images/{i}.png" for i in range(8)])


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Has an entry for each image that is decoded."""
    from ensemble.data import images

    calls: list[int] = []
    original = images.decode_with_remark

    def counted(*args: Any, **options: Any) -> Any:
        calls.append(1)
        return original(*args, **options)

    monkeypatch.setattr(images, "decode_with_remark", counted)
    return calls
