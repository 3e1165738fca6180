"""`ens check`: the findings, the page, exit codes."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.fake_runs import member

from ensemble.cli import run as ens
from ensemble.core.predictions import Predictions
from ensemble.data.detect_form import guess_spec
from ensemble.data.load import load_dataset


def test_check_finds_every_problem(checked_photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ens(["check", "--data", "photos", "--json", "--pairs", "pairs.csv", "--groups", "groups.csv"]) == 0
    out, err = capfd.readouterr()
    result = json.loads(out)
    assert "written to runs/check/photos.html, pairs.csv, groups.csv" in err.replace("\\", "/")
    assert result["counts"] == {"train": [12, 11], "valid": [4, 5], "test": [4, 4]}
    assert list(result["unreadable"]) == ["train/ant/broken.png"]
    assert result["odd"] == {
        "train/bee/black": "one colour all over",
        "train/bee/long": "long and thin: 400 x 60",
        "train/bee/wrong": "called .png, is JPEG",
    }
    assert any("notes.txt" in line for line in result["notes"])
    assert {(*pair[:5],) for pair in result["pairs"]} == {
        ("train", "ant/train0", "valid", "bee/again", "near"),
        ("train", "ant/train0", "test", "ant/same", "exact"),
        ("valid", "bee/again", "test", "ant/same", "near"),
        ("train", "bee/train1", "test", "bee/turned", "mirrored"),
    }
    assert result["leaks"] == {"valid": {"near": 1}, "test": {"exact": 1, "near": 1}}
    assert {(pair[1], pair[3]) for pair in result["two_labels"]} == {
        ("ant/train0", "bee/again"),
        ("bee/again", "ant/same"),
    }
    rows = list(csv.DictReader(io.StringIO(Path("pairs.csv").read_text())))
    assert len(rows) == 4 and rows[0]["kind"] == "exact" and float(rows[0]["correlation"]) == 1
    groups = list(csv.DictReader(io.StringIO(Path("groups.csv").read_text())))
    assert Counter(row["group"] for row in groups) == {"copies-0": 3, "copies-1": 2}
    kept = Path("runs/.data") / result["fingerprint"] / "check.json"
    assert json.loads(kept.read_text()) == result


def test_files_of_a_check_must_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ens(["check", "--pairs", str(tmp_path / "a.csv"), "--groups", str(tmp_path / "a.csv")]) == 2
    assert "name the same file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_check_text_and_page(checked_photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (checked_photos / "train/bee/train2.png").rename(checked_photos / "train/bee/<b>&amp;.png")
    assert ens(["check", "--data", "photos", "--out", "page.html"]) == 0
    out = capfd.readouterr().out
    assert len(out.splitlines()) <= 45
    assert "! in train too (of tests: in train or valid): valid: 1 nearly the same of 9" in out
    assert "2 pairs of copies have two labels" in out and "1 file cannot be read" in out
    page = Path("page.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|<script|<link|@import|src=\"(?!data:)", page)
    images = re.findall(r"<img [^>]*>", page)
    assert len(images) > 10 and all(re.search(r'alt="[^"]+"', image) for image in images)
    assert "prefers-color-scheme: dark" in page and "@media print" in page and 'name="viewport"' in page
    assert "<b>&amp;" not in re.sub(r"<b>(train|valid|test)/", "", page).replace("&lt;b&gt;&amp;amp;", "")
    assert ens(["check", "--data", "photos", "--out", "none.html", "--pictures", "0"]) == 0
    assert "<img" not in Path("none.html").read_text(encoding="utf-8")


def test_check_exit_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ens(["check", "--data", "nowhere"]) == 3
    assert ens(["check", "--wrong"]) == 2
    assert ens(["check", "--set", "skip_unreadable=true"]) == 2


def test_check_of_digits_skips_near_duplicates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ens(["check", "--pictures", "2"]) == 0
    out, err = capfd.readouterr()
    assert "1797 images are too small" in out and "digits" in err
    assert Path("runs/check/digits.html").is_file()


def test_check_page_is_written_without_a_runs_folder(
    checked_photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("runs").mkdir()
    Path("runs/.data").write_text("no folder")
    Path("runs/check").write_text("no folder")
    assert ens(["check", "--data", "photos", "--out", "page.html"]) == 0
    out, err = capfd.readouterr()
    assert Path("page.html").is_file() and "! " in out
    assert "check.json" in err and "will not know of near copies" in err
    assert ens(["check", "--data", "photos"]) == 1
    assert capfd.readouterr().out == out


def test_check_with_a_member_at_chance_judges_no_labels(
    checked_photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ens(["check", "--data", "photos", "--json"]) == 0
    facts = json.loads(capfd.readouterr().out)
    data = {"form": "folders", "fingerprint": facts["fingerprint"]}
    chance = member(Path("runs"), "net-00000001", 1, skill=0.0, data=data)
    assert ens(["check", "--data", "photos"]) == 0
    (line,) = [line for line in capfd.readouterr().out.splitlines() if line.startswith("label")]
    assert line.startswith(f"labels: not judged, {chance.id} cannot tell: it is right on ")
    assert ens(["check", "--data", "photos", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["label_issues"] == []


def test_check_judges_labels_with_a_run(checked_photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from helpers.fake_runs import run

    dataset = load_dataset(guess_spec(checked_photos).model_copy(update={"skip_unreadable": True}), Path("runs"))
    valid = dataset.splits["valid"]
    probs = np.where(np.eye(2)[valid.targets] > 0, 0.9, 0.1).astype(np.float32)
    wrong = valid.ids.tolist().index("bee/again")
    probs[wrong] = [0.97, 0.03]
    rows = Predictions(valid.ids, probs, dataset.classes, valid.targets)
    data = {"form": "folders", "fingerprint": dataset.fingerprint, "tests": {}}
    run(Path("runs"), "net-00000001", {"valid": rows}, data=data)
    assert ens(["check", "--data", "photos"]) == 0
    out = capfd.readouterr().out
    assert "label: bee/again is bee (0.03), likely ant (0.97)" in out
    assert "asked net-00000001, accuracy 0.8889)" in out
    page = Path("runs/check/photos.html").read_text(encoding="utf-8")
    assert "likely ant (0.97)" in page and "accuracy there is 0.8889" in page
    assert ens(["check", "--data", "photos", "--pictures", "0", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["judge_accuracy"] == pytest.approx(8 / 9)
    page = Path("runs/check/photos.html").read_text(encoding="utf-8")
    assert (
        "1 label is likely wrong" in page and "find none that is wrong" not in page and "0 of 1 are shown" in page
    )
