"""Class folders: what is listed, the ids, what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from helpers.photos import flat_image, flat_images
from PIL import Image

from ensemble.core.errors import DataError
from ensemble.data.detect_form import guess_spec
from ensemble.data.load import load_dataset
from ensemble.recipe.data_spec import DataSpec


def spec(root: Path, **keys: object) -> DataSpec:
    return DataSpec(form="folders", path=str(root), **keys)


def load(root: Path, **keys: object):
    return load_dataset(spec(root, **keys), root.parent / "runs")


def refused(root: Path, **keys: object) -> str:
    with pytest.raises(DataError) as caught:
        load(root, **keys)
    assert caught.value.exit_code == 3 and "\n" not in str(caught.value)
    return str(caught.value)


TWO = ("train/cat/1.png", "train/cat/2.png", "train/dog/1.png", "train/dog/2.png")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return flat_images(tmp_path / "photos", *TWO)


def test_ids_are_paths_inside_the_split_without_extension(photos: Path) -> None:
    flat_images(photos, "valid/cat/deep/er/a.b.jpg", "test/10.png", "test/9.PNG", "test/0001.png")
    data = load(photos)
    assert data.splits["train"].ids.tolist() == ["cat/1", "cat/2", "dog/1", "dog/2"]
    assert data.splits["train"].targets.tolist() == [0, 0, 1, 1]
    assert data.splits["valid"].ids.tolist() == ["cat/deep/er/a.b"]
    assert data.splits["test"].ids.tolist() == ["0001", "9", "10"]
    assert data.splits["test"].targets.tolist() == [-1, -1, -1]
    assert data.open_image(data.splits["valid"].paths[0]).size == (4, 4)


@pytest.mark.parametrize("name", ["valid", "val", "validation"])
def test_validation_folder_beside_train_is_used(photos: Path, name: str) -> None:
    flat_images(photos, f"{name}/dog/9.png")
    assert load(photos).splits["valid"].ids.tolist() == ["dog/9"]


def test_fifth_of_each_class_is_held_out_otherwise(tmp_path: Path) -> None:
    names = [f"train/{label}/{row}.png" for label in "abc" for row in range(10)]
    data = load(flat_images(tmp_path / "d", *names))
    assert np.bincount(data.splits["valid"].targets).tolist() == [2, 2, 2]
    assert np.bincount(data.splits["train"].targets).tolist() == [8, 8, 8]
    halves = load(tmp_path / "d", valid=0.5, split_seed=3)
    assert np.bincount(halves.splits["valid"].targets).tolist() == [5, 5, 5]
    assert halves.fingerprint != data.fingerprint


def test_classes_are_in_natural_order_or_that_of_the_recipe(tmp_path: Path) -> None:
    root = flat_images(tmp_path / "d", *[f"train/{label}/{row}.png" for label in ("10", "2", "1") for row in "ab"])
    assert load(root).classes.tolist() == ["1", "2", "10"]
    assert load(root, classes=("10", "1", "2")).classes.tolist() == ["10", "1", "2"]
    assert "'10'" in refused(root, classes=("1", "2"))


def test_numbered_folders_take_the_names_of_the_recipe(tmp_path: Path) -> None:
    root = flat_images(tmp_path / "d", *[f"train/{label}/{row}.png" for label in "01" for row in "ab"])
    data = load(root, classes=("zebra", "ant"))
    assert data.classes.tolist() == ["zebra", "ant"]
    train = data.splits["train"]
    assert [name[0] for name in train.ids] == [str(target) for target in train.targets]


def test_labelled_and_further_test_sets(photos: Path) -> None:
    flat_images(photos, "test/dog/7.png", "test/cat/7.png", "other/x.png", "more/dog/1.png")
    data = load(photos, tests={"other": "other", "more": "more"})
    assert list(data.tests) == ["test", "test-other", "test-more"]
    assert data.tests["test"].targets.tolist() == [0, 1]
    assert data.tests["test-other"].targets.tolist() == [-1]
    assert set(data.test_fingerprints) == {"test", "test-other", "test-more"}


def test_class_folders_without_train(tmp_path: Path) -> None:
    root = flat_images(tmp_path / "d", "cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png", "kept/9.png")
    data = load(root, train=".", test="kept")
    assert data.classes.tolist() == ["cat", "dog"]
    assert data.splits["test"].ids.tolist() == ["9"]
    runs = load_dataset(spec(root, train=".", test="kept"), root / "runs")
    again = load_dataset(spec(root, train=".", test="kept"), root / "runs")
    assert runs.fingerprint == again.fingerprint == data.fingerprint, "the runs folder is no class"


def test_ids_and_classes_are_composed_unicode(tmp_path: Path) -> None:
    spelled = unicodedata.normalize("NFD", "café")
    flat_images(
        tmp_path / "d",
        f"train/{spelled}/{spelled}.png",
        f"train/{spelled}/b.png",
        "train/x/1.png",
        "train/x/2.png",
    )
    data = load(tmp_path / "d", valid=0.5)
    everything = {*data.splits["train"].ids, *data.splits["valid"].ids}
    assert "café/café" in everything and "café" in data.classes
    for path in data.splits["train"].paths:
        data.open_image(path)


def test_other_files_are_noted_and_hidden_files_are_not(photos: Path) -> None:
    for name in ("train/cat/notes.txt", "train/cat/.hidden.png", "train/.git/x.png", "train/__MACOSX/y.png"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_text("x")
    output: list[str] = []
    data = load_dataset(spec(photos, valid=0.5), photos.parent / "runs", note=output.append)
    assert len(data.splits["train"]) + len(data.splits["valid"]) == 4
    assert "cat/notes.txt" in output[0] and "'train/__MACOSX'" in output[1] and len(output) == 2
    assert not any("hidden" in line or ".git" in line for line in output)


def test_links_are_followed_and_loops_refused(photos: Path) -> None:
    elsewhere = flat_images(photos.parent / "store", "a.png", "b.png")
    (photos / "train" / "linked").symlink_to(elsewhere, target_is_directory=True)
    assert "linked" in load(photos).classes
    (photos / "train" / "cat" / "round").symlink_to(photos / "train", target_is_directory=True)
    assert "loop" in refused(photos)


def test_link_to_itself_is_refused(photos: Path) -> None:
    (photos / "train" / "cat" / "self.png").symlink_to("self.png")
    assert "self.png" in refused(photos)


def test_control_characters_in_names_are_refused(photos: Path) -> None:
    flat_image(photos / "train" / "cat" / "two\nlines.png", 0)
    assert r"two\nlines" in refused(photos)


def test_one_id_for_two_files_is_refused(photos: Path) -> None:
    flat_images(photos, "train/cat/1.jpg")
    message = refused(photos)
    assert "train/cat/1.jpg" in message and "train/cat/1.png" in message


@pytest.mark.parametrize(
    ("names", "keys", "expected"),
    [
        ((), {}, "no folder"),
        (("elsewhere/cat/1.png",), {}, "elsewhere"),
        (("train/cat/1.png", "train/cat/2.png"), {}, "1 class"),
        (("train/cat/1.png", "train/dog/1.png", "train/dog/2.png"), {}, "single image: 'cat'"),
        ((*TWO, "train/loose.png"), {}, "loose.png"),
        ((*TWO, "test/bird/1.png"), {}, "'bird'"),
        ((*TWO, "valid/bird/1.png"), {}, "'bird'"),
        ((*TWO, "test/1.png", "test/cat/1.png"), {}, "1.png"),
        (TWO, {"valid": "nowhere"}, "data.valid"),
        (TWO, {"test": "nowhere"}, "data.test"),
        (TWO, {"tests": {"x": "nowhere"}}, "data.tests.x"),
        (TWO, {"classes": ("cat", "dog", "bird")}, "without a training image: 'bird'"),
    ],
)
def test_bad_folders_are_one_line(tmp_path: Path, names: tuple[str, ...], keys: dict, expected: str) -> None:
    assert expected in refused(flat_images(tmp_path / "d", *names), **keys)


def test_empty_folders_are_refused(photos: Path) -> None:
    (photos / "train" / "empty").mkdir()
    assert "'empty'" in refused(photos)
    (photos / "train" / "empty").rmdir()
    (photos / "test").mkdir()
    assert "no images" in refused(photos)


def test_folder_without_images_is_noted(tmp_path: Path) -> None:
    for name in "abcde":
        for kind in ("cat", "dog"):
            path = tmp_path / "d" / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (4, 4), ord(name) + len(kind)).save(path)
    spec, notes = guess_spec(tmp_path / "d"), []
    plain = load_dataset(spec, tmp_path / "runs")
    (tmp_path / "d" / "submissions").mkdir()
    (tmp_path / "d" / "submissions" / "a.csv").write_text("id,label\n")
    data = load_dataset(spec, tmp_path / "runs", note=notes.append)
    assert data.fingerprint == plain.fingerprint
    assert any("'submissions'" in line and "no class" in line for line in notes)


def test_names_outside_the_locale_say_what_to_set(tmp_path: Path) -> None:
    picture = tmp_path / "photos" / "train" / "кошка" / "a.png"
    picture.parent.mkdir(parents=True)
    Image.new("L", (4, 4)).save(picture)
    code = "from pathlib import Path; from ensemble.data.scan import scan; scan(Path('photos'))"
    ascii_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, **ascii_locale},
    )
    if sys.platform == "linux":
        assert "bytes that this locale cannot read" in run.stderr and "set PYTHONUTF8=1" in run.stderr
