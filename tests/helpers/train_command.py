"""`ens train` on the red and blue photos."""

from __future__ import annotations

from pathlib import Path

import pytest

from ensemble.cli import run as ens

SMALL = ["--set", "filters=[4, 8]", "--image-size", "8", "--batch-size", "8", "--lr", "0.01", "--epochs", "2"]


def train_photos(capfd: pytest.CaptureFixture[str], *args: str, code: int = 0) -> tuple[list[Path], str]:
    """Train customnet on the photos; the runs printed, and stderr."""
    capfd.readouterr()
    assert ens(["train", "--arch", "customnet", "--data", "photos", *SMALL, *args]) == code
    out, err = capfd.readouterr()
    return [Path("runs") / name for name in out.split()], err
