"""The recipes that need more than this machine has, shrunk until they run: for function, not for figures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ensemble.cli import run as ens

pytestmark = pytest.mark.slow

RECIPES = Path(__file__).parents[1] / "recipes"
SHRUNK = ["weights=none", "image_size=32", "batch_size=10", "frozen_epochs=0", "epochs=1", "lr=0.001"]


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten class folders of noise, two splits, and a flat folder of test images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ENS_RUNS", raising=False)
    random = np.random.default_rng(0)

    def image(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)

    for split, each in (("train", 3), ("valid", 2)):
        for label in range(10):
            for index in range(each):
                image(tmp_path / "cifar10" / split / f"class{label}" / f"{split}-{index}.png")
    for index in range(1, 12):
        image(tmp_path / "cifar10" / "test" / f"{index}.png")
    return tmp_path


def test_the_nine_members_are_trained_combined_refitted_and_submitted(
    cifar: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = [part for setting in SHRUNK for part in ("--set", setting)]
    assert ens(["run", str(RECIPES / "cifar10.yaml"), *settings]) == 0
    err = capfd.readouterr().err
    assert "no member passed" in err
    assert "before the refit" in err
    kinds = [json.loads(path.read_text())["kind"] for path in cifar.glob("runs/*/run.json")]
    # nobody is above 0.95 on noise: the best of each architecture answers, and is refitted
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"member": 9, "refit": 4, "ensemble": 2}
    newest = max(cifar.glob("submissions/*.csv"), key=lambda path: path.stat().st_mtime)
    rows = list(csv.reader(newest.open()))
    assert rows[0] == ["id", "label"]
    assert [row[0] for row in rows[1:]] == [str(index) for index in range(1, 12)]
    assert {row[1] for row in rows[1:]} <= {f"class{label}" for label in range(10)}


def test_ids_that_stand_in_the_way_of_a_refit_are_told_before_training(
    cifar: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder,) = cifar.glob("cifar10/valid/class0")
    (folder / "valid-0.png").rename(folder / "train-0.png")
    assert ens(["run", str(RECIPES / "cifar10.yaml"), "--set", "weights=none"]) == 3
    assert "class0/train-0" in capfd.readouterr().err
    assert not list(cifar.glob("runs/*/run.json"))


def test_a_rule_that_does_not_exist_is_told_before_training(cifar: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = (RECIPES / "cifar10-cpu.yaml").read_text()
    (cifar / "r.yaml").write_text(
        text.replace("per_arch: 2", "per_arch: 2\n  rule: acuracy").replace("kaggle", "kagle")
    )
    assert ens(["run", "r.yaml"]) == 2
    err = capfd.readouterr().err
    assert "did you mean 'accuracy'" in err
    assert "did you mean 'kaggle'" in err
    assert not list(cifar.glob("runs/*/run.json"))
