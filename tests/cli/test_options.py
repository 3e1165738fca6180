"""Options of the command line."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from ensemble.cli import run as ens
from ensemble.cli.options import Duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45s", 45), ("90m", 5400), ("2h", 7200), ("1h30m", 5400), ("1.5h", 5400), ("1h1m1s", 3661)],
)
def test_duration_option_is_read(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "-1h", "0s", "1 h 30", "2d", "nan", "1m2h"])
def test_duration_option_refuses_other_text(text: str) -> None:
    with pytest.raises(click.UsageError, match="90m, 2h or 1h30m is expected"):
        Duration().convert(text, None, None)


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


def test_set_option_names_the_nearest_key(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "ens.yaml").write_text("data: digits\nmembers:\n  - arch: customnet\n    epoch: 3\n    lr: quick\n")
    assert ens(["train"]) == 2
    err = capfd.readouterr().err
    assert "members[0].epoch: unknown key; did you mean 'epochs'?" in err
    assert "members[0].lr: 'quick' found" in err
    assert err.count("\n") == 1
