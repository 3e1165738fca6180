"""Laws of the data check: copies are found, strangers are not, leaks are counted, the page asks for nothing."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.duplicate_factory import found_and_right, scene
from helpers.fake_runs import member
from PIL import Image
from scipy.ndimage import gaussian_filter

from ensemble.check import near
from ensemble.check.align import luminance, overlaid, prepared, registered
from ensemble.check.checking import check
from ensemble.check.copies import Copies, copies, grouped
from ensemble.check.files import Headers, oddities
from ensemble.check.hashes import Proposals, hashes_of, proposals
from ensemble.check.items import all_items
from ensemble.check.labels import best_run_for_labels, label_issues, why_unusable
from ensemble.check.near import NearPairs, near_pairs, overlay, prepare
from ensemble.cli import run as ens
from ensemble.core.files import write_json
from ensemble.core.predictions import Predictions
from ensemble.data.detect_form import guess_spec
from ensemble.data.leaks import described, leaks, leaks_for_training, merged, of_folds, total
from ensemble.data.load import load_dataset
from ensemble.report.check_page import spread_out
from ensemble.runs.leaderboard import leaderboard
from ensemble.runs.run import all_runs

TEST_SEED = 90
"""The thresholds were chosen on pictures of seeds 1 to 7."""


def test_planted_copies_are_found_and_strangers_are_not() -> None:
    large = found_and_right(128, TEST_SEED, 12, 6)
    assert large["recall_of_all"] >= 0.95 and large["precision"] >= 0.95, large
    small = found_and_right(32, TEST_SEED, 24)
    assert small["recall_but_crops"] >= 0.95 and small["precision"] >= 0.95, small


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 128, 256])
@pytest.mark.parametrize("seed", [TEST_SEED + 1, TEST_SEED + 2])
def test_planted_copies_of_other_seeds_and_sizes(size: int, seed: int) -> None:
    result = found_and_right(size, seed, 30 if size > 128 else 60)
    assert result["precision"] >= 0.95 and result["recall_of_all" if size >= 128 else "recall_but_crops"] >= 0.95, (
        result
    )


@pytest.mark.parametrize(("scale", "shift"), [((0.0, 0.0), (0.08, -0.06)), ((-0.05, -0.1), (0.0, 0.05))])
def test_registration_finds_scale_and_shift(scale: tuple[float, float], shift: tuple[float, float]) -> None:
    """A place u of the first is (1 + scale) u + shift of the second; brightness and contrast do not matter."""
    whole = scene(np.random.default_rng(5), 256)
    box = lambda s, t: [*(128 + 96 * (t - (1 + s)))[::-1], *(128 + 96 * (t + (1 + s)))[::-1]]  # noqa: E731
    first = whole.resize((32, 32), Image.Resampling.BILINEAR, box=box(np.array(scale), np.array(shift)))
    second = whole.resize((32, 32), Image.Resampling.BILINEAR, box=box(np.zeros(2), np.zeros(2)))
    a, b = luminance(np.asarray(first)[None]), 0.7 * luminance(np.asarray(second)[None]) + 20
    zero = np.zeros((1, 2), np.float32)
    result = overlaid(prepared(a), prepared(b), *registered(a, b, zero, zero))
    assert result.scale[0] == pytest.approx(scale, abs=0.02) and result.shift[0] == pytest.approx(shift, abs=0.02)
    assert result.correlation[0] > 0.97 and result.detail[0] > 0.9


def test_constant_pictures_are_no_pair_and_nothing_divides_by_zero() -> None:
    flat = np.full((6, 32, 32, 3), 255, np.uint8)
    flat[3:] = 0
    assert len(near_pairs(flat)) == 0
    assert len(near_pairs(flat[:0])) == 0 and len(near_pairs(flat[:1])) == 0


def test_pairs_that_no_look_stands_leave_nothing() -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), np.uint8)
    one = np.zeros(1, np.int64)
    kept, result = overlay(prepare(pictures), Proposals(one, one + 1, one.astype(bool)))
    assert len(kept) == 0 and result.correlation.shape == (0,)


def test_pictures_that_look_alike_are_not_all_laid_over_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dark spot on bright skin, and texture of its own: the hashes propose most pairs of such pictures."""
    random = np.random.default_rng(0)
    n, copies = 400, 40
    places = np.linspace(-1, 1, 32)
    spots = []
    for _ in range(n):
        (x, y), (wide, high) = random.normal(0, 0.01, 2), random.uniform(0.55, 0.6, 2)
        spots.append(((places[:, None] - y) / high) ** 2 + ((places - x) / wide) ** 2)
    base = 190 - 110 / (1 + np.exp(4 * (np.stack(spots) - 1)))
    texture = gaussian_filter(random.normal(0, 1, (n, 32, 32)), (0, 1, 1)) * 20
    grey = np.clip(base + texture, 0, 255)
    grey[-copies:] = np.clip(grey[:copies] * 0.9 + 5, 0, 255)  # darker copies of the first
    pictures = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=3)
    looked: list[int] = []
    real = near.overlay
    monkeypatch.setattr(near, "overlay", lambda p, pairs: (looked.append(len(pairs)), real(p, pairs))[1])
    assert len(proposals(hashes_of(pictures))) > 20 * n
    result = near_pairs(pictures)
    pairs = set(zip(result.first.tolist(), result.second.tolist(), strict=True))
    assert {(row, n - copies + row) for row in range(copies)} <= pairs
    assert sum(looked) <= 6 * n


def test_proposals_are_those_of_every_pair_compared() -> None:
    random = np.random.default_rng(0)
    base = random.integers(0, 255, (150, 8, 8, 3), np.uint8)
    pictures = (
        np.concatenate([base, base[:, :, ::-1], base + (base < 240).astype(np.uint8)]).repeat(4, 1).repeat(4, 2)
    )
    hashes = hashes_of(pictures)
    result = proposals(hashes)
    expected = set()
    n = len(pictures)
    for mirrored in (0, 1):
        for words, radius in ((hashes.phash, 14), (hashes.dhash, 10)):
            bits = np.bitwise_count(words[mirrored][:, None] ^ words[0][None])
            expected |= {(i, j, bool(mirrored)) for i, j in np.argwhere(bits <= radius).tolist() if i < j}
    assert (
        set(zip(result.first.tolist(), result.second.tolist(), result.mirrored.tolist(), strict=True)) == expected
    )
    assert len(result) == len(expected) >= n / 3
    assert 0 < len(proposals(hashes, limit=100)) < len(result)


# ---- a data set with something of everything ----


def save(image: Image.Image, path: Path, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of 12 and 8, and in every split something wrong."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(7)
    root = tmp_path / "photos"
    for split, each in (("train", (12, 8)), ("valid", (4, 4)), ("test", (3, 3))):
        for name, count in zip(("ant", "bee"), each, strict=True):
            for number in range(count):
                save(scene(random, 96), root / split / name / f"{split}{number}.png")
    ant = Image.open(root / "train/ant/train0.png")
    (root / "test/ant/same.png").write_bytes((root / "train/ant/train0.png").read_bytes())
    save(ant, root / "valid/bee/again.jpg", quality=85)
    save(Image.open(root / "train/bee/train1.png").transpose(0), root / "test/bee/turned.png")
    save(Image.new("RGB", (96, 96), (9, 9, 9)), root / "train/bee/black.png")
    save(scene(random, 96).resize((400, 60)), root / "train/bee/long.png")
    save(scene(random, 96), root / "train/bee/wrong.png", format="JPEG")
    (root / "train/ant/broken.png").write_bytes(b"no image")
    (root / "train/ant/notes.txt").write_text("not an image")
    return root


def test_the_command_finds_everything_that_was_planted(photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
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


def test_no_two_files_of_a_check_are_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ens(["check", "--pairs", str(tmp_path / "a.csv"), "--groups", str(tmp_path / "a.csv")]) == 2
    assert "name the same file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_screen_and_the_page(photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (photos / "train/bee/train2.png").rename(photos / "train/bee/<b>&amp;.png")
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


def test_exit_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ens(["check", "--data", "nowhere"]) == 3
    assert ens(["check", "--wrong"]) == 2
    assert ens(["check", "--set", "skip_unreadable=true"]) == 2


def test_the_digits_are_too_small_for_near_duplicates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ens(["check", "--pictures", "2"]) == 0
    out, err = capfd.readouterr()
    assert "1797 images are too small" in out and "digits" in err
    assert Path("runs/check/digits.html").is_file()


def test_a_runs_folder_that_cannot_be_written_to_costs_no_page(
    photos: Path, capfd: pytest.CaptureFixture[str]
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


def test_odd_sizes_are_named() -> None:
    n = 9
    width, height = np.full(n, 200), np.full(n, 200)
    width[0], height[1], height[2] = 900, 10, 30
    headers = Headers(np.full(n, "PNG"), np.full(n, "RGB"), width, height)
    pictures = np.random.default_rng(0).integers(0, 255, (n, 32, 32, 3), np.uint8)
    output = oddities(headers, [f"{row}.png" for row in range(n)], pictures)
    assert set(output) == {0, 1, 2}
    assert "long and thin" in output[0] and "200 x 10 pixels" in output[1] and "far smaller" in output[2]


def test_a_jpeg_with_damaged_data_and_an_end_is_named(photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Pillow reads such files without a word; a grey border all around is no damage."""
    random = np.random.default_rng(11)
    turned = Image.Exif()
    turned[0x0112] = 6
    for name, exif in (("cut", Image.Exif()), ("turned", turned)):
        content = io.BytesIO()
        scene(random, 96).save(content, "JPEG", exif=exif)
        data = content.getvalue()
        (photos / f"train/ant/{name}.jpg").write_bytes(data[: len(data) * 4 // 5] + b"\xff\xd9")
    whole = Image.new("RGB", (96, 96), (128, 128, 128))
    whole.paste(scene(random, 60), (18, 18))
    save(whole, photos / "train/ant/border.jpg")
    save(scene(random, 96), photos / "train/ant/sound.jpg")
    assert ens(["check", "--data", "photos", "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    damaged = [name for name, why in result["odd"].items() if "may be damaged" in why]
    assert damaged == ["train/ant/cut", "train/ant/turned"]
    notes: list[str] = []
    (photos / "train/ant/broken.png").unlink()
    for _ in range(2):  # read, then remembered
        load_dataset(guess_spec(photos), Path("runs"), note=notes.append)
    lines = [line for line in notes if "may be damaged" in line]
    assert len(lines) == 2 and all("('train/ant/cut.jpg', 'train/ant/turned.jpg')" in line for line in lines)
    assert not any("metadata" in line for line in notes)


# ---- copies ----


def test_copies_of_one_content_are_every_pair_and_groups_join_them(photos: Path) -> None:
    (photos / "train/ant/broken.png").unlink()
    for number in range(3):
        (photos / f"train/ant/more{number}.png").write_bytes((photos / "train/ant/train0.png").read_bytes())
    items = all_items(load_dataset(guess_spec(photos), Path("runs")))
    empty = np.zeros(0, np.int64)
    none = NearPairs(empty, empty, empty.astype(bool), empty.astype(np.float32), empty.astype(np.float32))
    result = copies(items, none)
    assert len(result) == 10 and (items.content[result.first] == items.content[result.second]).all()
    assert (result.first < result.second).all()
    assert [len(rows) for rows in grouped(len(items), result)] == [5]


def test_groups_are_connected_components() -> None:
    pairs = np.array([[0, 1], [1, 4], [2, 6], [5, 6]])
    created = Copies(pairs[:, 0], pairs[:, 1], np.full(4, "near"), np.ones(4, np.float32))
    assert grouped(8, created) == [[0, 1, 4], [2, 5, 6]]
    assert spread_out(5, 9).tolist() == [0, 1, 2, 3, 4] and spread_out(100, 3).tolist() == [0, 50, 99]
    assert spread_out(0, 3).tolist() == [] and spread_out(5, 0).tolist() == []


# ---- leaks ----


def test_training_knows_what_bytes_and_the_last_check_tell(photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (photos / "train/ant/broken.png").unlink()
    dataset = load_dataset(guess_spec(photos), Path("runs"))
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


def test_a_shared_group_is_a_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(1)
    for name in "abcdefgh":
        save(scene(random, 32), tmp_path / "set" / f"{name}.png")
    head = "id,label,patient\n"
    (tmp_path / "set" / "train.csv").write_text(head + "a,x,p1\nb,y,p2\nc,x,p3\nd,y,p3\n")
    (tmp_path / "set" / "valid.csv").write_text(head + "e,x,p3\nf,y,p4\n")
    (tmp_path / "set" / "test.csv").write_text(head + "g,x,p4\nh,y,p5\n")
    spec = guess_spec(tmp_path / "set").model_copy(update={"group_column": "patient", "label_column": "label"})
    dataset = load_dataset(spec, Path("runs"))
    assert leaks(dataset) == {"valid": {"group": 1}, "test": {"group": 1}}
    result = check(dataset, Path("runs"), "set")
    assert list(result.shared_groups) == [("train", "valid", ("p3",)), ("valid", "test", ("p4",))]


def test_leaks_of_folds_add_up_and_of_the_same_data_do_not() -> None:
    parts = [
        {"valid": {"exact": 1}, "test": {"near": 4}},
        {"valid": {"exact": 2, "near": 1}, "test": {"near": 4}},
        {},
    ]
    assert of_folds(parts) == {"valid": {"exact": 3, "near": 1}, "test": {"near": 4}}
    assert merged(parts[0], parts[1]) == {"valid": {"exact": 2, "near": 1}, "test": {"near": 4}}
    assert total(of_folds(parts)) == "valid 4, test 4" and total({}) == ""


def test_the_leaderboard_has_a_column_where_something_leaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs"
    one = member(runs, "one-00000001", 1)
    member(runs, "their-00000002", 2, kind="import")
    assert ens(["ls"]) == 0
    assert "leaks" not in capfd.readouterr().out
    facts = json.loads((one.path / "run.json").read_text())
    write_json(one.path / "run.json", {**facts, "leaks": {"valid": {"exact": 3}}})
    assert [row.leaks for row in leaderboard(all_runs(runs))] == [{"valid": {"exact": 3}}] * 2
    write_json(runs / ".data" / one.fingerprint / "leaks.json", {"test": {"near": 7, "exact": 1}})
    assert ens(["ls"]) == 0
    out = capfd.readouterr().out
    assert "leaks" in out.splitlines()[0] and out.count("valid 3, test 8") == 2


@pytest.mark.slow
def test_training_warns_and_records(photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (photos / "train/ant/broken.png").unlink()
    words = ["train", "--arch", "customnet", "--data", "photos", "--image-size", "32", "--batch-size", "8"]
    assert ens([*words, "--epochs", "1", "--lr", "0.01", "--set", "filters=[8, 16]"]) == 0
    out, err = capfd.readouterr()
    assert "warning: images that are in train too" in err and "test: 1 the same of 8" in err
    facts = json.loads((Path("runs") / out.strip() / "run.json").read_text())
    assert facts["leaks"] == {"test": {"exact": 1}}


# ---- labels ----


def with_wrong_labels(n: int, wrong: int, seed: int) -> tuple[Predictions, set[str]]:
    random = np.random.default_rng(seed)
    true = np.arange(n) % 3
    output = np.eye(3)[true] * 4 + random.random((n, 3))
    given = true.copy()
    rows = random.choice(n, wrong, replace=False)
    given[rows] = (given[rows] + 1) % 3
    ids = np.array([f"i{row}" for row in range(n)])
    probs = (output / output.sum(1, keepdims=True)).astype(np.float32)
    return Predictions(ids, probs, np.array(["ant", "bee", "cat"]), given), set(ids[rows].tolist())


def test_wrong_labels_are_named_with_what_is_likelier() -> None:
    predictions, wrong = with_wrong_labels(300, 12, 3)
    result = label_issues(predictions)
    named = {issue.id for issue in result}
    assert named <= wrong and len(named) >= 0.9 * len(wrong)
    assert all(issue.given != issue.likely and issue.likely_confidence > issue.confidence for issue in result)
    assert [issue.confidence for issue in result] == sorted(issue.confidence for issue in result)
    bare = Predictions(predictions.ids, predictions.probs, predictions.classes, None)
    assert label_issues(bare) == []


@pytest.mark.parametrize(
    ("right", "largest", "n", "judges"),
    [
        (34, 32, 64, False),
        (40, 32, 64, True),  # 0.625; its lower bound 0.52
        (38, 32, 64, False),  # 0.59; its lower bound 0.49
        (190, 180, 200, True),
        (185, 180, 200, False),
        (1, 1, 1, False),
    ],
)
def test_labels_are_judged_only_by_what_is_better_than_the_largest_class(
    right: int, largest: int, n: int, judges: bool
) -> None:
    targets = (np.arange(n) >= largest).astype(np.int64)
    output = np.where(np.arange(n) < right, targets, 1 - targets)
    ids = np.array([f"i{row}" for row in range(n)])
    probs = np.eye(2, dtype=np.float32)[output] * 0.98 + np.float32(0.01)
    why = why_unusable(Predictions(ids, probs, np.array(["ant", "bee"]), targets))
    assert (why == "") == judges
    assert judges or (f"{right} of {n}" in why and f"({largest} of {n})" in why)


def test_a_member_at_chance_judges_no_labels(photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ens(["check", "--data", "photos", "--json"]) == 0
    facts = json.loads(capfd.readouterr().out)
    data = {"form": "folders", "fingerprint": facts["fingerprint"]}
    chance = member(Path("runs"), "net-00000001", 1, skill=0.0, data=data)
    assert ens(["check", "--data", "photos"]) == 0
    (line,) = [line for line in capfd.readouterr().out.splitlines() if line.startswith("label")]
    assert line.startswith(f"labels: not judged, {chance.id} cannot tell: it is right on ")
    assert ens(["check", "--data", "photos", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["label_issues"] == []


def test_folds_are_asked_before_a_better_member(tmp_path: Path) -> None:
    assert best_run_for_labels(tmp_path, "a" * 64) is None
    member(tmp_path, "good-00000001", 1, skill=0.95)
    member(tmp_path, "other-00000002", 1, skill=0.99, data={"form": "folders", "fingerprint": "b" * 64})
    folds = member(tmp_path, "folds-00000003", 2, skill=0.6, kind="folds")
    assert best_run_for_labels(tmp_path, "a" * 64) == folds


def test_labels_are_judged_once_a_run_is_there(photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from helpers.fake_runs import run

    dataset = load_dataset(guess_spec(photos).model_copy(update={"skip_unreadable": True}), Path("runs"))
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
