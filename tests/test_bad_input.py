"""A newcomer's mistakes end in one line, the right exit code and no traceback, with nothing written over."""

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


@pytest.mark.parametrize(
    "args",
    [
        ["train", "--arch", "customnet", "--lr", "nan"],
        ["train", "--arch", "customnet", "--lr", "inf"],
        ["train", "--arch", "customnet", "--lr", "-1"],
        ["train", "--arch", "customnet", "--epochs", "0"],
        ["train", "--arch", "customnet", "--epochs", "1.5"],
        ["train", "--arch", "customnet", "--batch-size", "0"],
        ["train", "--arch", "customnet", "--image-size", "-32"],
        ["train", "--arch", "customnet", "--seed", "-1"],
        ["train", "--arch", "customnet", "--set", "weight_decay=.inf"],
        ["train", "--arch", "customnet", "--set", "weight_decay"],
        ["train", "--arch", "customnet", "--set", "wieght_decay=0.1"],
        ["train", "--arch", "customnet", "--set", "data.split_sed=1"],
        ["train", "--arch", "customnet", "--set", "epochs=[1"],
        ["train", "--recipe", "nowhere.yaml"],
        ["train"],
        ["run", "nowhere.yaml"],
        ["run"],
        ["combine", "--threshold", "nan"],
        ["combine", "--threshold", "inf"],
        ["combine", "--threshold", "2"],
        ["combine", "--per-arch", "-1"],
        ["combine", "--rule", "acuracy"],
        ["demo", "--seed", "x"],
        ["tarin"],
    ],
    ids=" ".join,
)
def test_bad_options_are_usage_errors(here: Path, capfd: pytest.CaptureFixture[str], args: list[str]) -> None:
    if args[0] == "combine" and "--rule" in args:
        from helpers.fake_runs import member

        from ensemble.data.digits import DIGITS_FINGERPRINT

        member(
            here / "runs",
            "a-00000000",
            seed=0,
            data={"form": "digits", "fingerprint": DIGITS_FINGERPRINT, "tests": {}},
        )
    assert ens(args) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert [line for line in err.splitlines() if line.startswith("ens: ")] == err.splitlines()[-1:]
    assert "Traceback" not in err


def test_the_nearest_key_is_named(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "ens.yaml").write_text("data: digits\nmembers:\n  - arch: customnet\n    epoch: 3\n    lr: quick\n")
    assert ens(["train"]) == 2
    err = capfd.readouterr().err
    assert "members[0].epoch: unknown key; did you mean 'epochs'?" in err
    assert "members[0].lr: 'quick' found" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_refuses_is_one_line(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    noise_folders(here / "photos" / "train")

    def refuse(*args: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    assert ens(["train", "--arch", "customnet", "--data", "photos"]) == 1
    err = capfd.readouterr().err
    assert os.strerror(code) in err.splitlines()[-1]
    assert "Traceback" not in err


def test_init_does_not_write_over_a_recipe(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    noise_folders(here / "photos" / "train")
    assert ens(["init", "photos"]) == 0
    first = (here / "ens.yaml").read_bytes()
    (here / "ens.yaml").write_bytes(first + b"# mine\n")
    assert ens(["init", "photos"]) == 2
    assert "--force" in capfd.readouterr().err
    assert (here / "ens.yaml").read_bytes() == first + b"# mine\n"


@pytest.mark.parametrize(("each", "batch"), [(4, 2), (12, 4), (24, 8)])
def test_init_writes_a_batch_that_the_images_fill(here: Path, each: int, batch: int) -> None:
    from ensemble.recipe.file import read_recipe_file

    for name in ("ant", "bee"):
        (here / "photos" / "train" / name).mkdir(parents=True)
        for index in range(each):
            (here / "photos" / "train" / name / f"{index}.png").touch()  # no image is opened
    assert ens(["init", "photos"]) == 0
    assert read_recipe_file(here / "ens.yaml").members[0].batch_size == batch
    assert "so that an epoch of" in (here / "ens.yaml").read_text()


def test_what_init_writes_is_a_valid_recipe(here: Path) -> None:
    from ensemble.recipe.file import read_recipe_file

    noise_folders(here / "my photos" / "train")
    assert ens(["init", "my photos"]) == 0
    result = read_recipe_file(here / "ens.yaml")
    assert result.data.path == "my photos"
    assert [member.arch for member in result.members] == ["resnet34", "densenet121"] + ["efficientnet_b0"] * 2
