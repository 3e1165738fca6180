"""Data and disks that are not as they should be: one line, the right exit code, no traceback."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.photos import noise_folders

from ensemble.cli import run as ens


def empty(folder: Path) -> None:
    (folder / "photos").mkdir()


def one_class(folder: Path) -> None:
    noise_folders(folder / "photos" / "train", classes=("cat",))


def a_class_with_one_image(folder: Path) -> None:
    noise_folders(folder / "photos" / "train")
    noise_folders(folder / "photos" / "train", each=1, classes=("eel",))


def truncated(folder: Path) -> None:
    noise_folders(folder / "photos" / "train")
    file = folder / "photos" / "train" / "cat" / "0.png"
    file.write_bytes(file.read_bytes()[:200])


def symlink_loop(folder: Path) -> None:
    noise_folders(folder / "photos" / "train")
    (folder / "photos" / "train" / "cat" / "again").symlink_to(folder / "photos" / "train")


def newline_in_a_name(folder: Path) -> None:
    noise_folders(folder / "photos" / "train")
    (folder / "photos" / "train" / "cat" / "0.png").rename(folder / "photos" / "train" / "cat" / "a\nb.png")


def not_there(folder: Path) -> None:
    pass


def a_text_file(folder: Path) -> None:
    (folder / "photos").write_text("not a folder")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (empty, "photos"),
        (one_class, "cat"),
        (a_class_with_one_image, "eel"),
        (truncated, "0.png"),
        (symlink_loop, "loop"),
        (newline_in_a_name, "a\\nb.png"),
        (not_there, "photos"),
        (a_text_file, "photos"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_bad_data_is_refused_before_training(
    here: Path, capfd: pytest.CaptureFixture[str], make: Callable[[Path], None], says: str
) -> None:
    make(here)
    assert ens(["train", "--arch", "customnet", "--data", "photos"]) == 3
    out, err = capfd.readouterr()
    assert out == ""
    assert says in err
    assert err.startswith("ens: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not [path for path in here.glob("runs/*") if not path.name.startswith(".")]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_disk_error_is_one_line(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    noise_folders(here / "photos" / "train")

    def refuse(*args: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    assert ens(["train", "--arch", "customnet", "--image-size", "8", "--data", "photos"]) == 1
    err = capfd.readouterr().err
    assert os.strerror(code) in err.splitlines()[-1]
    assert "Traceback" not in err
