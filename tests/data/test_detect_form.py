"""Which form of data a path holds: folders, tables, archives; what is only noted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.layouts import classes, draw, loaded, refused, write_table

from ensemble.cli import run as ens
from ensemble.core.errors import DataError
from ensemble.data.detect_form import guess_spec
from ensemble.data.load import load_dataset
from ensemble.recipe.data_spec import DataSpec
from ensemble.recipe.schema import SubmitSpec


def guessed(path: Path) -> dict[str, object]:
    return guess_spec(path).model_dump(exclude_defaults=True, exclude={"path"})


def test_detect_folders(small_photos: Path) -> None:
    assert guessed(small_photos) == {"form": "folders", "valid": "valid", "test": "test"}
    assert guessed(small_photos / "train") == {"form": "folders", "train": "."}
    assert len(load_dataset(guess_spec(small_photos / "train"), small_photos.parent / "runs").splits["valid"]) == 2
    (small_photos / "train").rename(small_photos / "Train")
    assert guessed(small_photos)["train"] == "Train"
    assert load_dataset(guess_spec(small_photos), small_photos.parent / "runs").classes.tolist() == ["cat", "dog"]


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
def test_detect_tables(tmp_path: Path, lines: list[str], keys: dict[str, object]) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n")
    expected = {"form": "csv", "train": "train.csv", "images": "images", **keys}
    assert guessed(tmp_path) == guessed(tmp_path / "train.csv") == expected


def test_undetected_data_say_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("id,label\n")
    (tmp_path / "stuff").mkdir()
    for path, expected in ((tmp_path, "labels.csv"), (tmp_path / "absent", "does not exist")):
        with pytest.raises(DataError, match=expected):
            guess_spec(path)


@pytest.mark.usefixtures("here")
def test_intel_image_classification() -> None:
    root = classes("seg_train/seg_train", "seg_test/seg_test")
    draw("seg_pred/seg_pred/1.png", "seg_pred/seg_pred/2.png")
    names, sizes, notes = loaded(root)
    assert names == ["cat", "dog"]
    assert sizes == {"train": 6, "valid": 2, "test": 8, "test-seg_pred": 2}
    assert notes == [
        "d: train from seg_train/seg_train, test from seg_test/seg_test, test-seg_pred from seg_pred/seg_pred"
    ]


@pytest.mark.usefixtures("here")
def test_single_folder_of_an_archive_is_entered() -> None:
    root = classes("photos", "__MACOSX/photos")
    assert loaded(root)[:2] == (["cat", "dog"], {"train": 6, "valid": 2})
    inner = classes("images/Images", root="e")
    (inner / "annotations").mkdir()
    assert loaded(inner)[0] == ["cat", "dog"]


@pytest.mark.usefixtures("here")
def test_circular_links_do_not_hang_detection() -> None:
    root = classes("train")
    for name in ("round", "again"):
        (root / "empty").mkdir(exist_ok=True)
        (root / "empty" / name).symlink_to(root / "empty", target_is_directory=True)
    assert guess_spec(root).train == "train"


@pytest.mark.usefixtures("here")
def test_missing_data_folder_is_found_beside_the_recipe(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    classes("train", root="photos")
    write_table("ens.yaml", "data: {form: folders, path: photos}", root=".")
    (here / "sub").mkdir()
    monkeypatch.chdir(here / "sub")
    assert ens(["check", "--recipe", "../ens.yaml"]) == 3
    advice, error = capsys.readouterr().err.splitlines()
    assert advice.startswith("../photos is beside the recipe") and "--set data.path=../photos" in advice
    assert f"there is no folder photos in {here / 'sub'}" in error
    assert ens(["check", "--recipe", "../ens.yaml", "--set", "data.path=../photos"]) == 0
    assert ens(["check", "--recipe", "../ens.yaml", "--set", "data.path=elsewhere"]) == 3
    assert "beside" not in capsys.readouterr().err
    write_table("train.csv", "id,label", root=str(here))
    spec = DataSpec(form="csv", path=str(here / "gone"), train="train.csv")
    assert refused(spec) == f"data.path: there is no folder {here / 'gone'}; correct it"
    assert "is no folder" in refused(spec.model_copy(update={"path": str(here / "train.csv")}))


@pytest.mark.usefixtures("here")
def test_class_labels_in_file_names_are_refused() -> None:
    root = draw(*[f"train/{label}.{i}.png" for label in ("cat", "dog") for i in range(4)], "test1/1.png")
    for path in (root, root / "train"):
        message = refused(path)
        assert "'cat', 'dog'" in message and "id,label" in message


@pytest.mark.usefixtures("here")
def test_layout_of_dog_breeds() -> None:
    root = draw(*[f"train/{i}.png" for i in range(8)], *[f"test/t{i}.png" for i in range(3)])
    write_table("labels.csv", "id,breed", *[f"{i},{'ab'[i % 2]}" for i in range(8)])
    write_table("sample_submission.csv", "id,a,b", *[f"t{i},0.5,0.5" for i in range(3)])
    assert loaded(root) == (
        ["a", "b"],
        {"train": 6, "valid": 2, "test": 3},
        ["labels.csv: ids from 'id', labels from 'breed', test from test"],
    )


@pytest.mark.usefixtures("here")
def test_image_folders_of_a_table_are_no_classes() -> None:
    root = draw(*[f"part_{1 + i // 4}/{i}.png" for i in range(8)])
    write_table(
        "meta.csv", "lesion_id,image_id,dx,age", *[f"L{i // 2},{i},{'ab'[i // 2 % 2]},{i}" for i in range(8)]
    )
    assert loaded(root)[0] == ["a", "b"]
    assert guess_spec(root).train == "meta.csv"


@pytest.mark.usefixtures("here")
def test_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("USERPROFILE", str(here))
    classes("train")
    assert loaded(DataSpec(form="folders", path="~/d"))[1] == loaded(guess_spec(Path("~/d")))[1]
    spec = DataSpec(
        path="~/a", train="~/b", valid="~/c", test="~/d", tests={"x": "~/e"}, images="~/f", groups="~/g"
    )
    values = spec.model_dump(exclude={"form", "split_seed"}, exclude_defaults=True)
    assert not any("~" in str(value) for value in values.values()) and len(values) == 7
    assert SubmitSpec(sample="~/s.csv").sample == f"{here}{os.sep}s.csv".replace(
        os.sep, "/" if os.sep == "/" else os.sep
    )
    assert DataSpec(valid=0.5).valid == 0.5
