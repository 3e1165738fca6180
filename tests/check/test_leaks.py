"""Images of one patient or one content in two splits: what training knows, records and shows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.checked_photos import save_image
from helpers.duplicate_factory import scene
from helpers.fake_runs import member

from ensemble.check.checking import check
from ensemble.cli import run as ens
from ensemble.core.files import write_json
from ensemble.data.detect_form import guess_spec
from ensemble.data.leaks import described, leaks, leaks_for_training, merged, of_folds, total
from ensemble.data.load import load_dataset
from ensemble.runs.leaderboard import leaderboard
from ensemble.runs.run import all_runs


def test_training_knows_leaks_by_bytes_and_by_the_last_check(
    checked_photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (checked_photos / "train/ant/broken.png").unlink()
    dataset = load_dataset(guess_spec(checked_photos), Path("runs"))
    assert leaks_for_training(dataset, Path("runs")) == {"test": {"exact": 1}}
    result = check(dataset, Path("runs"), "photos")
    assert leaks_for_training(dataset, Path("runs")) == result.leaks
    assert result.leaks == {"valid": {"near": 1}, "test": {"exact": 1, "near": 1}}
    assert (
        described(result.leaks, dataset)
        == "valid: 1 nearly the same of 9; test: 1 the same, 1 nearly the same of 8"
    )
    for path in Path("runs/.data").glob("*/check.json"):
        path.write_text("{ broken")
    assert leaks_for_training(dataset, Path("runs")) == {"test": {"exact": 1}}


def test_shared_group_is_a_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(1)
    for name in "abcdefgh":
        save_image(scene(random, 32), tmp_path / "set" / f"{name}.png")
    head = "id,label,patient\n"
    (tmp_path / "set" / "train.csv").write_text(head + "a,x,p1\nb,y,p2\nc,x,p3\nd,y,p3\n")
    (tmp_path / "set" / "valid.csv").write_text(head + "e,x,p3\nf,y,p4\n")
    (tmp_path / "set" / "test.csv").write_text(head + "g,x,p4\nh,y,p5\n")
    spec = guess_spec(tmp_path / "set").model_copy(update={"group_column": "patient", "label_column": "label"})
    dataset = load_dataset(spec, Path("runs"))
    assert leaks(dataset) == {"valid": {"group": 1}, "test": {"group": 1}}
    result = check(dataset, Path("runs"), "set")
    assert list(result.shared_groups) == [("train", "valid", ("p3",)), ("valid", "test", ("p4",))]


def test_leaks_of_folds_add_up() -> None:
    parts = [
        {"valid": {"exact": 1}, "test": {"near": 4}},
        {"valid": {"exact": 2, "near": 1}, "test": {"near": 4}},
        {},
    ]
    assert of_folds(parts) == {"valid": {"exact": 3, "near": 1}, "test": {"near": 4}}
    assert merged(parts[0], parts[1]) == {"valid": {"exact": 2, "near": 1}, "test": {"near": 4}}
    assert total(of_folds(parts)) == "valid 4, test 4" and total({}) == ""


def test_leaderboard_has_a_column_for_leaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs"
    item = member(runs, "one-00000001", 1)
    member(runs, "their-00000002", 2, kind="import")
    assert ens(["ls"]) == 0
    assert "leaks" not in capfd.readouterr().out
    facts = json.loads((item.path / "run.json").read_text())
    write_json(item.path / "run.json", {**facts, "leaks": {"valid": {"exact": 3}}})
    assert [row.leaks for row in leaderboard(all_runs(runs))] == [{"valid": {"exact": 3}}] * 2
    write_json(runs / ".data" / item.fingerprint / "leaks.json", {"test": {"near": 7, "exact": 1}})
    assert ens(["ls"]) == 0
    out = capfd.readouterr().out
    assert "leaks" in out.splitlines()[0] and out.count("valid 3, test 8") == 2


@pytest.mark.slow
def test_training_warns_of_leaks_and_records_them(checked_photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (checked_photos / "train/ant/broken.png").unlink()
    words = ["train", "--arch", "customnet", "--data", "photos", "--image-size", "32", "--batch-size", "8"]
    assert ens([*words, "--epochs", "1", "--lr", "0.01", "--set", "filters=[8, 16]"]) == 0
    out, err = capfd.readouterr()
    assert "warning: images that are in train too" in err and "test: 1 the same of 8" in err
    facts = json.loads((Path("runs") / out.strip() / "run.json").read_text())
    assert facts["leaks"] == {"test": {"exact": 1}}
