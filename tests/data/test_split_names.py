"""Names of folders and files that mean train, validation or test."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.layouts import ROWS, classes, draw, loaded, refused, write_table

from ensemble.data.detect_form import guess_spec
from ensemble.data.split_names import role_of, split_names
from ensemble.recipe.data_spec import DataSpec

pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.parametrize(
    ("role", "names"),
    [
        (
            "train",
            "train Train training training_set trainset train_images TrainImages seg_train x_train train2017",
        ),
        ("train", "ISIC2018_Task3_Training_Input training-data train_1 dataset_train"),
        ("valid", "valid val validation dev validation_set val2017 seg_val Eval valid_images"),
        ("test", "test testing test_set testset test1 seg_test seg_pred pred test_images TestSet unlabeled"),
        (None, "contest latest trainee cat train_and_test test_tube bus_train labels model"),
    ],
)
def test_names_of_splits(role: str | None, names: str) -> None:
    assert {name: role_of(name) for name in names.split()} == dict.fromkeys(names.split(), role)


def test_own_word_of_a_split_needs_a_partner() -> None:
    assert set(split_names(["flowers_train", "flowers_val"])) == {"train", "valid"}
    assert split_names(["flowers_train", "roses_val"]) == {}


@pytest.mark.parametrize(
    ("folders", "keys", "counts"),
    [
        (("training_set", "test_set"), {"train": "training_set", "test": "test_set"}, {"test": 8}),
        (("Train", "Val"), {"train": "Train", "valid": "Val"}, {"valid": 8}),
        (("train", "dev"), {"valid": "dev"}, {"valid": 8}),
        (
            ("flowers_train", "flowers_val"),
            {"train": "flowers_train", "valid": "flowers_val"},
            {"train": 8, "valid": 8},
        ),
        (("archive/seg_train/seg_train",), {"train": "archive/seg_train/seg_train"}, {"train": 6, "valid": 2}),
        (("train/images", "test/images"), {"train": "train/images", "test": "test/images"}, {"test": 8}),
    ],
)
def test_split_folders_are_no_classes(folders: tuple[str, ...], keys: dict, counts: dict[str, int]) -> None:
    root = classes(*folders)
    assert guess_spec(root).model_dump(exclude_defaults=True, exclude={"path", "form"}) == keys
    names, sizes, notes = loaded(root)
    assert names == ["cat", "dog"] and counts.items() <= sizes.items()
    assert len(notes) == 1 and all(place in notes[0] for place in folders)


def test_train_may_be_a_class_of_vehicles() -> None:
    root = draw(*[f"{label}/{i}.png" for label in ("bus", "car", "train") for i in range(4)])
    assert loaded(root)[0] == ["bus", "car", "train"]


def test_split_folders_of_equal_rank_are_ambiguous() -> None:
    assert "train: train_1}" in refused(classes("train_1", "train_2"))


def test_recipe_does_not_train_splits_as_classes() -> None:
    root = classes("training_set", "test_set")
    spec = DataSpec(form="folders", path=str(root), train=".")
    message = refused(spec)
    assert "data.train: training_set" in message and "data.test: test_set" in message
    assert loaded(spec.model_copy(update={"classes": ("test_set", "training_set")}))[0][0] == "test_set"


def test_unused_splits_are_noted() -> None:
    root = classes("train", "dev")
    _, sizes, notes = loaded(DataSpec(form="folders", path=str(root)))
    assert sizes == {"train": 6, "valid": 2} and "'dev'" in notes[0] and "data.valid" in notes[0]


@pytest.mark.parametrize("names", ["Val Test", "VALID TEST", "Validation test"])
def test_split_folders_in_any_case_of_letters(names: str) -> None:
    valid, test = names.split()
    root = classes("train", valid, test)
    _, sizes, notes = loaded(DataSpec(form="folders", path=str(root)))
    assert sizes == {"train": 8, "valid": 8, "test": 8}
    assert notes == [f"d: train from train, valid from {valid}, test from {test}"]
    assert guess_spec(root).valid == valid


def test_exact_split_name_precedes_another_case(here: Path) -> None:
    classes("train", "VALID")
    classes("val", n=3)
    _, sizes, notes = loaded(DataSpec(form="folders", path="d"))
    assert sizes == {"train": 8, "valid": 6} and "not used: 'VALID'" in notes[0]


def test_empty_split_folder_in_another_case_is_skipped() -> None:
    root = classes("train")
    (root / "Val").mkdir()
    assert loaded(DataSpec(form="folders", path=str(root)))[1] == {"train": 6, "valid": 2}


def test_unused_folders_beside_train_are_named() -> None:
    root = classes("a/train", "a/dev")
    assert "'a/dev'" in loaded(DataSpec(form="folders", path=str(root), train="a/train"))[2][1]
    both = classes("train", "valid", "dev", root="e")
    assert any("are not used" in line for line in loaded(both)[2])


def test_split_tables_in_any_case_of_letters(here: Path) -> None:
    draw(*[f"images/{i}.png" for i in range(8)], *[f"Test/{i}.png" for i in range(4)])
    write_table("train.csv", "id,label", *ROWS[:4])
    write_table("Valid.csv", "id,label", *ROWS[4:])
    spec = DataSpec(form="csv", path="d", train="train.csv", images="images")
    assert loaded(spec)[1] == {"train": 4, "valid": 4, "test": 4}
    write_table("TEST.csv", "id", "0", "1")
    write_table("val.csv", "id,label", *ROWS[4:6])
    assert loaded(spec)[1] == {"train": 4, "valid": 2, "test": 2}


def test_class_folders_named_like_splits_are_noted() -> None:
    flat = draw(*[f"{label}/{i}.png" for label in ("cat", "dog", "test") for i in range(4)])
    recipe = "data: {form: folders, path: d, train: .}"
    assert f"if 'test' is a class too, use a recipe with {recipe}" in loaded(flat)[2][1]
    spec = DataSpec(form="folders", path="d", train=".")
    names, _, notes = loaded(spec)
    assert names == ["cat", "dog", "test"] and "taken for classes, though called as splits are: 'test'" in notes[1]
    listed = spec.model_copy(update={"classes": tuple(names)})
    assert loaded(listed)[2] == notes[:1]


@pytest.mark.parametrize("others", [("invalid",), ("invalid", "unsure")])
def test_class_named_valid_is_refused(others: tuple[str, ...]) -> None:
    root = draw(*[f"{label}/{i}.png" for label in ("valid", *others) for i in range(4)])
    message = refused(root)
    assert "if 'valid' is a class too, use a recipe with data: {form: folders, path: d, train: .}" in message
    assert loaded(DataSpec(form="folders", path="d", train="."))[0] == sorted(("valid", *others))


def test_unused_tables_named_like_splits_are_noted(numbered_images: Path) -> None:
    write_table("train.csv", "id,label", *ROWS)
    write_table("dev_set.csv", "id,label", *ROWS)
    draw("test_images/9.png")
    notes = loaded(DataSpec(form="csv", path="d", train="train.csv", images="images", label_column="label"))[2]
    assert any("'dev_set.csv'" in line and "data.valid" in line for line in notes)
    assert any("'test_images'" in line and "data.test" in line for line in notes)
