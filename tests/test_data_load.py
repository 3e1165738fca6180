"""Laws of loading: fingerprints are of content, unreadable files are all told, nothing is read twice."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.photos import flat_image

from ensemble.core.errors import DataError, EnsError, RecipeError
from ensemble.data import file_hashes
from ensemble.data.dataset import Dataset, Items, fingerprint
from ensemble.data.detect_form import guess_spec
from ensemble.data.digits import DIGITS_FINGERPRINT, digits_dataset
from ensemble.data.file_hashes import UnreadableFiles
from ensemble.data.load import current_fingerprint, fold_of, load_dataset, refit_of
from ensemble.recipe.schema import DataSpec


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for split, count in (("train", 6), ("valid", 2)):
        for label in ("cat", "dog"):
            for row in range(count):
                flat_image(root / split / label / f"{split}{row}.png", row + 10 * (label == "dog"))
    flat_image(root / "test" / "a.png", 99)
    return root


def spec(root: Path, **keys: object) -> DataSpec:
    return DataSpec(form="folders", path=str(root), **keys)


def load(root: Path, **keys: object) -> Dataset:
    return load_dataset(spec(root, **keys), root.parent / "runs")


def test_the_fingerprint_is_free_of_places(photos: Path, tmp_path: Path) -> None:
    first = load(photos)
    moved = tmp_path / "elsewhere" / "moved"
    shutil.copytree(photos, moved)
    assert load(moved).fingerprint == first.fingerprint
    assert load(moved).test_fingerprints == first.test_fingerprints
    assert current_fingerprint(spec(moved), tmp_path / "other runs") == first.fingerprint


@pytest.mark.parametrize("change", ["content", "label", "split", "id", "classes"])
def test_the_fingerprint_covers(photos: Path, change: str) -> None:
    first = load(photos)
    keys: dict[str, object] = {}
    file = photos / "train" / "cat" / "train0.png"
    if change == "content":
        flat_image(file, 200)
    elif change == "label":
        file.rename(photos / "train" / "dog" / "train9.png")
    elif change == "split":
        file.rename(photos / "valid" / "cat" / "train0.png")
    elif change == "id":
        file.rename(file.with_name("other.png"))
    else:
        keys["classes"] = ("dog", "cat")
    changed = load(photos, **keys)
    assert changed.fingerprint != first.fingerprint
    assert current_fingerprint(spec(photos, **keys), photos.parent / "runs") == changed.fingerprint
    if change != "classes":
        assert changed.test_fingerprints == first.test_fingerprints


def test_the_fingerprint_leaves_the_test_out(photos: Path) -> None:
    first = load(photos)
    flat_image(photos / "test" / "b.png", 5)
    second = load(photos)
    assert second.fingerprint == first.fingerprint
    assert second.test_fingerprints != first.test_fingerprints


def test_the_fingerprint_is_the_same_in_every_version() -> None:
    """A changed value would cut every run that people have on disk from its data."""
    items = Items(np.array(["cat/1", "dog/1"]), np.array(["p", "q"]), np.array([0, 1]))
    result = fingerprint({"train": items}, np.array(["cat", "dog"]), {"p": "00", "q": "11"})
    rows = '["train","cat/1","cat",null,"00"],["train","dog/1","dog",null,"11"]'
    canonical = '{"classes":["cat","dog"],"rows":[' + rows + "]}"
    assert result == hashlib.sha256(canonical.encode()).hexdigest()


def test_items_are_written_beside_the_runs(photos: Path) -> None:
    data = load(photos)
    path = photos.parent / "runs" / ".data" / data.fingerprint / "items.csv"
    lines = path.read_text().splitlines()
    assert lines[0] == "id,path,split,label,group" and len(lines) == 1 + 12 + 4 + 1
    assert "cat/train0,train/cat/train0.png,train,cat," in lines and lines[-1] == "a,test/a.png,test,,"


def test_every_unreadable_file_is_told_at_once(photos: Path) -> None:
    whole = (photos / "train" / "cat" / "train0.png").read_bytes()
    (photos / "train" / "cat" / "train0.png").write_bytes(whole[:45])
    (photos / "train" / "cat" / "train1.png").write_bytes(b"")
    (photos / "valid" / "dog" / "valid0.png").write_text("not an image")
    for row in range(10):
        (photos / "test" / f"{row}.png").touch()
    with pytest.raises(UnreadableFiles) as caught:
        load(photos)
    message = str(caught.value)
    assert message.startswith("13 of 27 images") and message.endswith("--set data.skip_unreadable=true")
    assert "train/cat/train1.png is empty" in message and "and 8 more" in message and "\n" not in message
    assert len(caught.value.problems) == 13 and caught.value.exit_code == 3
    with pytest.raises(UnreadableFiles, match="3 of 16"):
        current_fingerprint(spec(photos), photos.parent / "runs")


def test_unreadable_files_are_skipped_when_told(photos: Path) -> None:
    (photos / "train" / "cat" / "train0.png").write_bytes(b"broken")
    output: list[str] = []
    data = load_dataset(spec(photos, skip_unreadable=True), photos.parent / "runs", note=output.append)
    assert "cat/train0" not in data.splits["train"].ids and len(data.splits["train"]) == 11
    assert any("skipped 1 of 17" in line and "cat/train0.png" in line for line in output)
    (photos / "train" / "cat" / "train0.png").unlink()
    assert load(photos).fingerprint == data.fingerprint


def test_skipping_every_image_of_a_class_is_refused(photos: Path) -> None:
    for path in (photos / "train" / "cat").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(DataError, match="without a training image: 'cat'"):
        load(photos, skip_unreadable=True)


def test_files_are_read_once_and_again_when_they_change(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    truly = file_hashes.examined

    def counted(path: Path, **keys: object):
        read.append(path.name)
        return truly(path, **keys)  # type: ignore[arg-type]

    monkeypatch.setattr(file_hashes, "examined", counted)
    progress: list[tuple[int, int]] = []
    runs = photos.parent / "runs"
    first = load_dataset(spec(photos), runs, progress=lambda done, total: progress.append((done, total)))
    assert len(read) == 17 and progress == [(done, 17) for done in range(1, 18)]
    read.clear()
    assert load(photos).fingerprint == first.fingerprint and read == []
    changed = photos / "train" / "cat" / "train0.png"
    flat_image(changed, 201)
    os.utime(changed, ns=(1, 1))
    assert load(photos).fingerprint != first.fingerprint and read == ["train0.png"]
    read.clear()
    load(photos, max_pixels=10**6)
    assert len(read) == 17, "another cap is another question"


def test_two_images_of_one_size_and_time_that_are_exchanged_are_noticed(photos: Path) -> None:
    first, second = (photos / "train" / name for name in ("cat/train0.png", "dog/train1.png"))
    for path in (first, second):
        path.write_bytes(path.read_bytes().ljust(1_000, b"\0"))
        os.utime(path, ns=(10**18, 10**18))
    before = load(photos)
    spare = photos / "spare"
    first.rename(spare)
    second.rename(first)
    spare.rename(second)
    after = load(photos)
    assert after.content["train/cat/train0.png"] == before.content["train/dog/train1.png"]
    assert after.fingerprint != before.fingerprint


def test_one_picture_with_two_labels_is_named(photos: Path) -> None:
    shutil.copy(photos / "train" / "cat" / "train0.png", photos / "train" / "dog" / "copy.png")
    shutil.copy(photos / "train" / "cat" / "train1.png", photos / "train" / "cat" / "copy.png")
    notes: list[str] = []
    load_dataset(spec(photos), photos.parent / "runs", note=notes.append)
    (note,) = [line for line in notes if "two labels" in line]
    assert "the same: 1 ('train/cat/train0.png and train/dog/copy.png')" in note


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "text", "folder"])
def test_a_damaged_memory_changes_nothing(photos: Path, damage: str) -> None:
    first = load(photos)
    (memory,) = (photos.parent / "runs" / ".data").glob("digests-*.json")
    whole = memory.read_bytes()
    sha256 = json.loads(whole.partition(b"\n")[2])["test/a.png"][4].encode()
    if damage == "folder":
        memory.unlink()
        memory.mkdir()
    else:
        flipped = whole.replace(sha256, b"0" * 64)
        assert flipped != whole
        memory.write_bytes({"flip": flipped, "cut": whole[:99], "empty": b"", "text": b"x\n{"}[damage])
    again = load(photos)
    assert (again.fingerprint, again.test_fingerprints) == (first.fingerprint, first.test_fingerprints)


def test_an_unwritable_memory_changes_nothing(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(photos)

    def full(path: Path, content: object) -> Path:
        raise EnsError("cannot write: No space left on device")

    monkeypatch.setattr(file_hashes, "write_atomically", full)
    assert current_fingerprint(spec(photos), photos.parent / "new runs") == first.fingerprint


@pytest.mark.parametrize("n_folds", [17, 100])
def test_folds_that_cannot_all_be_are_refused_with_the_first(photos: Path, n_folds: int) -> None:
    """Else seventeen networks would be trained before the eighteenth says that it has no rows."""
    with pytest.raises(DataError, match=r"fold 16 of \d+ would be empty; set a smaller number of folds"):
        fold_of(load(photos), n_folds, 0, 0)


def test_folds_pool_and_divide(photos: Path) -> None:
    data = load(photos)
    folds = [fold_of(data, 3, fold, split_seed=0) for fold in range(3)]
    everything = sorted([*data.splits["train"].ids, *data.splits["valid"].ids])
    assert sorted(name for part in folds for name in part.splits["valid"].ids) == everything
    for part in folds:
        assert sorted([*part.splits["train"].ids, *part.splits["valid"].ids]) == everything
        assert part.fingerprint == data.fingerprint and "test" in part.splits
        assert np.ptp(np.bincount(part.splits["valid"].targets)) <= 1
    refit = refit_of(data)
    assert "valid" not in refit.splits and sorted(refit.splits["train"].ids) == everything
    assert refit.fingerprint == data.fingerprint


def test_folds_and_refits_refuse_an_id_in_both_splits(photos: Path) -> None:
    flat_image(photos / "valid" / "cat" / "train0.png", 77)
    data = load(photos)
    for pool in (lambda: fold_of(data, 2, 0, 0), lambda: refit_of(data)):
        with pytest.raises(DataError, match="'cat/train0'"):
            pool()


def test_folds_that_cannot_be_are_refused(photos: Path) -> None:
    data = load(photos)
    with pytest.raises(DataError, match="smaller number"):
        fold_of(data, 17, 16, 0)
    with pytest.raises(RecipeError):
        fold_of(data, 3, 3, 0)
    single = data.splits["train"].take(np.flatnonzero(data.splits["train"].targets == 0)[:1])
    dogs = data.splits["train"].take(data.splits["train"].targets == 1)
    lonely = Dataset(data.classes, {"train": single, "valid": dogs}, "", {}, data.open_image)
    with pytest.raises(DataError, match="'cat'"):
        [fold_of(lonely, 2, fold, 0) for fold in range(2)]


def test_the_digits_are_what_they_were() -> None:
    data = digits_dataset()
    assert data.fingerprint == DIGITS_FINGERPRINT == current_fingerprint(DataSpec(), Path("runs"))
    assert {split: len(items) for split, items in data.splits.items()} == {
        "train": 1079,
        "valid": 359,
        "test": 359,
    }
    ids = np.concatenate([items.ids for items in data.splits.values()])
    assert sorted(map(int, ids)) == list(range(1797)) and data.classes.tolist() == list("0123456789")


def test_a_digit_is_its_pixels_scaled() -> None:
    from sklearn.datasets import load_digits

    image = digits_dataset().open_image("1796")
    expected = (load_digits().images[1796] * 255 // 16).astype(np.uint8)
    assert image.mode == "RGB" and (np.asarray(image) == expected[:, :, None]).all()
    with pytest.raises(DataError, match="1797"):
        digits_dataset().open_image("1797")


def test_readers_travel_to_other_processes(photos: Path) -> None:
    for data, path in ((load(photos), "test/a.png"), (digits_dataset(), "0")):
        reader = pickle.loads(pickle.dumps(data.open_image))
        assert reader == data.open_image and reader(path).mode == "RGB"


def test_the_fingerprint_of_the_digits_loads_no_library() -> None:
    code = (
        "import sys; from pathlib import Path; from ensemble.recipe.schema import DataSpec;"
        "from ensemble.data.load import current_fingerprint; current_fingerprint(DataSpec(), Path('runs'));"
        "print(sorted({'torch', 'fastai', 'sklearn', 'pandas', 'PIL', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def guessed(path: Path) -> dict[str, object]:
    return guess_spec(path).model_dump(exclude_defaults=True, exclude={"path"})


def test_guesses_of_folders(photos: Path) -> None:
    assert guessed(photos) == {"form": "folders", "valid": "valid", "test": "test"}
    assert guessed(photos / "train") == {"form": "folders", "train": "."}
    assert len(load_dataset(guess_spec(photos / "train"), photos.parent / "runs").splits["valid"]) == 2
    (photos / "train").rename(photos / "Train")
    assert guessed(photos)["train"] == "Train"
    assert load_dataset(guess_spec(photos), photos.parent / "runs").classes.tolist() == ["cat", "dog"]


@pytest.mark.parametrize(
    ("lines", "keys"),
    [
        (["id,breed", "a,x"], {"label_column": "breed"}),
        (["label,file", "x,a"], {"label_column": "label"}),
        (["id,age,diagnosis", "a,3,x"], {"label_column": "diagnosis"}),
        (["id,p,q", "a,1,0", "b,0,0"], {"label_columns": ("p", "q")}),
        (["id,p,q", "a,0.5,0.5"], {"label_columns": ("p", "q"), "soft_labels": True}),
        (["id,p,q", "a,5,x"], {}),
    ],
)
def test_guesses_of_tables(tmp_path: Path, lines: list[str], keys: dict[str, object]) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n")
    expected = {"form": "csv", "train": "train.csv", "images": "images", **keys}
    assert guessed(tmp_path) == guessed(tmp_path / "train.csv") == expected


def test_guesses_that_cannot_be_made_say_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("id,label\n")
    (tmp_path / "stuff").mkdir()
    for path, expected in ((tmp_path, "labels.csv"), (tmp_path / "absent", "does not exist")):
        with pytest.raises(DataError, match=expected):
            guess_spec(path)


def test_the_fingerprint_covers_groups_and_soft_labels() -> None:
    from dataclasses import replace

    from ensemble.data.dataset import Items, fingerprint

    names = np.array(["x", "y"])
    items = Items(
        names, names, np.array([0, 1]), np.array(["g", "h"]), np.array([[0.75, 0.25], [0.25, 0.75]], "f4")
    )
    others = [
        items,
        replace(items, groups=np.array(["g", "g"])),
        replace(items, groups=None),
        replace(items, soft=np.array([[1, 0], [0, 1]], "f4")),
        replace(items, soft=None),
    ]
    content = {"x": "1", "y": "2"}
    assert len({fingerprint({"train": one}, np.array(["a", "b"]), content) for one in others}) == len(others)


def groups_file(root: Path, *lines: str) -> str:
    (root.parent / "groups.csv").write_text("\n".join(["split,id,group", *lines]) + "\n")
    return str(root.parent / "groups.csv")


def test_groups_from_a_file_join_items_and_the_others_stay_alone(photos: Path) -> None:
    path = groups_file(photos, "train,cat/train0,a", "train,cat/train1,a", "valid,cat/valid0,a", "test,a,b")
    plain, result = load(photos), load(photos, groups=path)
    train = result.splits["train"]
    assert train.groups is not None and result.splits["valid"].groups is not None
    reported = dict(zip(train.ids.tolist(), train.groups.tolist(), strict=True))
    assert (
        reported["cat/train0"] == reported["cat/train1"] == "a" and len(set(reported.values())) == len(reported) - 1
    )
    assert result.splits["valid"].groups.tolist().count("a") == 1
    assert result.splits["test"].groups is None
    assert result.fingerprint != plain.fingerprint
    assert current_fingerprint(spec(photos, groups=path), photos.parent / "runs") == result.fingerprint
    # folds keep them together, across train and valid
    fold = [fold_of(result, 3, number, 0) for number in range(3)]
    for view in fold:
        parts = [view.splits[split].groups for split in ("train", "valid")]
        assert not set(parts[0].tolist()) & set(parts[1].tolist())  # type: ignore[union-attr]


def test_groups_of_a_held_out_fraction_are_found_by_id(photos: Path) -> None:
    shutil.rmtree(photos / "valid")
    path = groups_file(photos, *(f"valid,cat/train{row},a" for row in range(3)), "train,cat/train3,a")
    result = load(photos, valid=0.4, groups=path)
    sides = [set(result.splits[split].groups.tolist()) for split in ("train", "valid")]  # type: ignore[union-attr]
    assert ("a" in sides[0]) != ("a" in sides[1])


def test_groups_that_fit_nothing_or_contradict_are_refused(photos: Path) -> None:
    with pytest.raises(DataError, match="none of which is an id"):
        load(photos, groups=groups_file(photos, "train,cow/1,a"))
    with pytest.raises(DataError, match="is in two groups"):
        load(photos, groups=groups_file(photos, "train,cat/train0,a", "train,cat/train0,b"))
    with pytest.raises(DataError, match=r"data\.groups"):
        groups_file(photos, "x")
        (photos.parent / "groups.csv").write_text("split,name\ntrain,a\n")
        load(photos, groups=str(photos.parent / "groups.csv"))
