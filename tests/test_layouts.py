"""Folders and tables as people have them: what is taken for what, what is said of it, what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ensemble.cli import run as ens
from ensemble.core.errors import DataError, EnsError
from ensemble.data.detect_form import guess_spec
from ensemble.data.inputs import named_images
from ensemble.data.load import load_dataset
from ensemble.data.split_names import role_of, split_names
from ensemble.recipe.file import read_recipe_file
from ensemble.recipe.schema import DataSpec, SubmitSpec

pytestmark = pytest.mark.usefixtures("here")


def draw(*names: str, root: str = "d") -> Path:
    for value, name in enumerate(names):
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(value).integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return Path(root)


def classes(*folders: str, n: int = 4, root: str = "d") -> Path:
    """Images of cats and dogs in each of the folders."""
    return draw(*[f"{f}/{label}/{i}.png" for f in folders for label in ("cat", "dog") for i in range(n)], root=root)


def table(name: str, *lines: str, encoding: str = "utf-8", root: str = "d") -> Path:
    path = Path(root, name)
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return path


def loaded(path: Path | DataSpec) -> tuple[list[str], dict[str, int], list[str]]:
    """Classes, the number of items of each split, and the notes."""
    notes: list[str] = []
    spec = path if isinstance(path, DataSpec) else guess_spec(path)
    data = load_dataset(spec, Path("runs"), note=notes.append)
    return data.classes.tolist(), {split: len(items) for split, items in data.splits.items()}, notes


def refused(path: Path | DataSpec, code: int = 3) -> str:
    with pytest.raises(EnsError) as caught:
        loaded(path)
    assert caught.value.exit_code == code and "\n" not in str(caught.value)
    return str(caught.value)


# folders ---------------------------------------------------------------------------------------------------------


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


def test_a_word_of_its_own_needs_a_partner_with_the_same() -> None:
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


def test_intel_image_classification() -> None:
    root = classes("seg_train/seg_train", "seg_test/seg_test")
    draw("seg_pred/seg_pred/1.png", "seg_pred/seg_pred/2.png")
    names, sizes, notes = loaded(root)
    assert names == ["cat", "dog"]
    assert sizes == {"train": 6, "valid": 2, "test": 8, "test-seg_pred": 2}
    assert notes == [
        "d: train from seg_train/seg_train, test from seg_test/seg_test, test-seg_pred from seg_pred/seg_pred"
    ]


def test_the_only_folder_of_an_archive_is_looked_into() -> None:
    root = classes("photos", "__MACOSX/photos")
    assert loaded(root)[:2] == (["cat", "dog"], {"train": 6, "valid": 2})
    inner = classes("images/Images", root="e")
    (inner / "annotations").mkdir()
    assert loaded(inner)[0] == ["cat", "dog"]


def test_links_in_circles_do_not_hang_a_guess() -> None:
    root = classes("train")
    for name in ("round", "again"):
        (root / "empty").mkdir(exist_ok=True)
        (root / "empty" / name).symlink_to(root / "empty", target_is_directory=True)
    assert guess_spec(root).train == "train"


def test_train_may_be_a_class_of_vehicles() -> None:
    root = draw(*[f"{label}/{i}.png" for label in ("bus", "car", "train") for i in range(4)])
    assert loaded(root)[0] == ["bus", "car", "train"]


def test_folders_of_the_same_rank_are_a_question() -> None:
    assert "train: train_1}" in refused(classes("train_1", "train_2"))


def test_a_recipe_does_not_train_splits_as_classes() -> None:
    root = classes("training_set", "test_set")
    spec = DataSpec(form="folders", path=str(root), train=".")
    message = refused(spec)
    assert "data.train: training_set" in message and "data.test: test_set" in message
    assert loaded(spec.model_copy(update={"classes": ("test_set", "training_set")}))[0][0] == "test_set"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"train": "seg_train", "test": None}, "data.train"),
        ({"train": "seg_train/seg_train", "test": "seg_test"}, "data.test"),
        ({"train": "seg_train/seg_train", "tests": {"more": "seg_test"}}, "data.tests.more"),
    ],
)
def test_a_folder_between_split_and_classes_is_named(keys: dict, expected: str) -> None:
    root = classes("seg_train/seg_train", "seg_test/seg_test")
    message = refused(DataSpec(form="folders", path=str(root), **keys))
    assert f"set {expected} to the inner one" in message and "'cat', 'dog'" in message


def test_a_recipe_is_told_of_splits_that_it_does_not_use() -> None:
    root = classes("train", "dev")
    _, sizes, notes = loaded(DataSpec(form="folders", path=str(root)))
    assert sizes == {"train": 6, "valid": 2} and "'dev'" in notes[0] and "data.valid" in notes[0]


def test_a_data_folder_that_is_not_there_is_looked_for_beside_the_recipe(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    classes("train", root="photos")
    table("ens.yaml", "data: {form: folders, path: photos}", root=".")
    (here / "sub").mkdir()
    monkeypatch.chdir(here / "sub")
    assert ens(["check", "--recipe", "../ens.yaml"]) == 3
    advice, error = capsys.readouterr().err.splitlines()
    assert advice.startswith("../photos is beside the recipe") and "--set data.path=../photos" in advice
    assert f"there is no folder photos in {here / 'sub'}" in error
    assert ens(["check", "--recipe", "../ens.yaml", "--set", "data.path=../photos"]) == 0
    assert ens(["check", "--recipe", "../ens.yaml", "--set", "data.path=elsewhere"]) == 3
    assert "beside" not in capsys.readouterr().err
    table("train.csv", "id,label", root=str(here))
    spec = DataSpec(form="csv", path=str(here / "gone"), train="train.csv")
    assert refused(spec) == f"data.path: there is no folder {here / 'gone'}; correct it"
    assert "is no folder" in refused(spec.model_copy(update={"path": str(here / "train.csv")}))


@pytest.mark.parametrize("names", ["Val Test", "VALID TEST", "Validation test"])
def test_a_recipe_uses_split_folders_in_any_case_of_letters(names: str) -> None:
    valid, test = names.split()
    root = classes("train", valid, test)
    _, sizes, notes = loaded(DataSpec(form="folders", path=str(root)))
    assert sizes == {"train": 8, "valid": 8, "test": 8}
    assert notes == [f"d: train from train, valid from {valid}, test from {test}"]
    assert guess_spec(root).valid == valid


def test_an_exact_name_comes_before_one_in_another_case(here: Path) -> None:
    classes("train", "VALID")
    classes("val", n=3)
    _, sizes, notes = loaded(DataSpec(form="folders", path="d"))
    assert sizes == {"train": 8, "valid": 6} and "not used: 'VALID'" in notes[0]


def test_an_empty_folder_in_another_case_is_passed_over() -> None:
    root = classes("train")
    (root / "Val").mkdir()
    assert loaded(DataSpec(form="folders", path=str(root)))[1] == {"train": 6, "valid": 2}


def test_folders_beside_train_that_are_not_used_are_named_wherever_train_is() -> None:
    root = classes("a/train", "a/dev")
    assert "'a/dev'" in loaded(DataSpec(form="folders", path=str(root), train="a/train"))[2][1]
    both = classes("train", "valid", "dev", root="e")
    assert any("are not used" in line for line in loaded(both)[2])


def test_tables_of_splits_are_used_in_any_case_of_letters(here: Path) -> None:
    draw(*[f"images/{i}.png" for i in range(8)], *[f"Test/{i}.png" for i in range(4)])
    table("train.csv", "id,label", *ROWS[:4])
    table("Valid.csv", "id,label", *ROWS[4:])
    spec = DataSpec(form="csv", path="d", train="train.csv", images="images")
    assert loaded(spec)[1] == {"train": 4, "valid": 4, "test": 4}
    table("TEST.csv", "id", "0", "1")
    table("val.csv", "id,label", *ROWS[4:6])
    assert loaded(spec)[1] == {"train": 4, "valid": 2, "test": 2}


def test_class_folders_called_as_splits_are_named() -> None:
    flat = draw(*[f"{label}/{i}.png" for label in ("cat", "dog", "test") for i in range(4)])
    recipe = "data: {form: folders, path: d, train: .}"
    assert f"if 'test' is a class too, use a recipe with {recipe}" in loaded(flat)[2][1]
    spec = DataSpec(form="folders", path="d", train=".")
    names, _, notes = loaded(spec)
    assert names == ["cat", "dog", "test"] and "taken for classes, though called as splits are: 'test'" in notes[1]
    listed = spec.model_copy(update={"classes": tuple(names)})
    assert loaded(listed)[2] == notes[:1]


@pytest.mark.parametrize("others", [("invalid",), ("invalid", "unsure")])
def test_a_class_called_valid_is_refused_with_what_to_do(others: tuple[str, ...]) -> None:
    root = draw(*[f"{label}/{i}.png" for label in ("valid", *others) for i in range(4)])
    message = refused(root)
    assert "if 'valid' is a class too, use a recipe with data: {form: folders, path: d, train: .}" in message
    assert loaded(DataSpec(form="folders", path="d", train="."))[0] == sorted(("valid", *others))


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("siteA", "siteB"), "'cat', 'dog'"),
        ((".", "flowers"), "'flowers'"),
    ],
)
def test_a_level_above_the_classes_is_refused(folders: tuple[str, ...], expected: str) -> None:
    root = classes(*folders)
    message = refused(root)
    assert expected in message and "data.classes" in message


@pytest.mark.parametrize("inner", ["cat/tabby/{}.png dog/poodle/{}.png", "cat/images/{}.png dog/images/{}.png"])
def test_class_folders_may_hold_folders(inner: str) -> None:
    draw(*[name.format(i) for name in inner.split() for i in range(4)])
    assert loaded(Path("d"))[0] == ["cat", "dog"]


def test_labels_in_names_are_refused_with_what_to_do() -> None:
    root = draw(*[f"train/{label}.{i}.png" for label in ("cat", "dog") for i in range(4)], "test1/1.png")
    for path in (root, root / "train"):
        message = refused(path)
        assert "'cat', 'dog'" in message and "id,label" in message


def test_files_of_systems_are_passed_over_and_counted() -> None:
    root = classes("train")
    names = [
        "train/@eaDir/1.png",
        "train/cat/@eaDir/1.png/SYNO.png",
        "train/$Recycle.Bin/1.png",
        "train/#recycle/1.png",
    ]
    draw(*names, "train/System Volume Information/1.png", "train/lost+found/1.png")
    for name in ("Thumbs.db", "desktop.ini", "Icon\r"):
        (root / "train" / "cat" / name).write_bytes(b"")
    (root / "train" / "cat" / "two\nlines.txt").write_bytes(b"")
    labels, sizes, notes = loaded(root)
    assert labels == ["cat", "dog"] and sizes == {"train": 6, "valid": 2}
    assert [line for line in notes if "operating systems" in line] == [notes[-1]]
    assert notes[-1].startswith("9 files and folders")
    assert len(named_images([str(root / "train")])) == 8
    draw("train/dog/bad\rname/1.png")
    assert r"bad\rname" in refused(root)


def test_classes_that_look_alike_are_named() -> None:
    draw(
        *[
            f"train/{label}/{i}.png"
            for label in ("Cat", "cat", "dog", "d\u200bog", "do  g", "do g")
            for i in range(4)
        ]
    )
    notes = loaded(Path("d"))[2]
    assert any("'Cat', 'cat'" in line for line in notes)
    assert any(r"'dog', 'd\u200bog'" in line for line in notes)
    assert any("'do  g', 'do g'" in line for line in notes)
    draw("valid/DOG/1.png", "valid/cat/1.png")
    assert "'dog' differs by case" in refused(Path("d"))


def test_a_class_folder_has_no_spaces_at_its_ends_as_a_table_has_none() -> None:
    draw(*[f"train/{label}/{i}.png" for label in ("ant ", " bee") for i in range(4)])
    draw("valid/ant/1.png", "valid/bee /1.png", "test/ant/1.png")
    assert loaded(Path("d"))[0] == ["ant", "bee"]
    listed = DataSpec(form="folders", path="d", classes=("bee ", "ant"))
    assert loaded(listed)[0] == ["bee", "ant"]
    draw("train/ant/9.png")
    assert "differ by spaces at their ends alone: 'ant', 'ant '" in refused(Path("d"))


@pytest.mark.parametrize("pair", ["0 0.0", "1 01", "10 1e1", "2. 2"])
def test_classes_that_are_one_number_are_named(pair: str) -> None:
    first, second = pair.split()
    draw(*[f"train/{label}/{i}.png" for label in (first, second, "3", "-3", "x1") for i in range(4)])
    lines = [line for line in loaded(Path("d"))[2] if "same number" in line]
    assert len(lines) == 1 and f"{first!r}" in lines[0] and f"{second!r}" in lines[0] and "'3'" not in lines[0]


def test_large_numbers_are_told_apart_by_every_digit() -> None:
    draw(*[f"train/{label}/{i}.png" for label in (f"1{'0' * 30}", f"1{'0' * 29}1", "nan", "inf") for i in range(4)])
    assert loaded(Path("d"))[2] == []


def test_labels_that_are_another_spelling_of_a_number_get_a_hint(images: Path) -> None:
    table("train.csv", "id,label", *[f"{i},{i % 2}.0" for i in range(6)])
    table("valid.csv", "id,label", "6,0", "7,1")
    spec = DataSpec(form="csv", path="d", train="train.csv", images="images")
    assert "'0' and '0.0' are the same number" in refused(spec)
    listed = spec.model_copy(update={"classes": ("ant", "bee")})
    assert "'0.0' and '0' are the same number" in refused(listed)


@pytest.mark.parametrize("labels", [("cat", "nan"), ("None", "NA")])
def test_classes_that_scorers_read_as_missing_are_named_by_check(
    images: Path, labels: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = table("list.csv", "id,label", *[f"{i},{labels[i % 2]}" for i in range(8)])
    assert ens(["check", "--data", str(path)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "read as missing" in line]
    assert line.startswith("! ") and "'cat'" not in line and f"{labels[1]!r}" in line


# tables ----------------------------------------------------------------------------------------------------------

ROWS = [f"{i}.png,{'ab'[i % 2]}" for i in range(8)]


@pytest.fixture
def images() -> Path:
    return draw(*[f"images/{i}.png" for i in range(8)])


@pytest.mark.parametrize("first", ["0.png,a", "0,a", "images/0.png,a"])
def test_a_table_without_a_header_is_refused(images: Path, first: str) -> None:
    path = table("list.csv", first, *ROWS[1:])
    assert "add a header line, such as id,label" in refused(path)
    assert "add a header line" in refused(DataSpec(form="csv", path="d", train="list.csv", images="images"))
    if "/" not in first:
        with pytest.raises(DataError, match="add a header line"):
            named_images(["d/list.csv"], folder=Path("d/images"))


def test_a_class_in_the_header_is_refused_and_numbered_columns_are_not(images: Path) -> None:
    assert "'cat', which" in refused(table("list.csv", "x.png,cat", "0.png,cat", "1.png,dog", "2.png,dog"))
    one_hot = [f"{i},{1 - i % 2},{i % 2}" for i in range(8)]
    assert loaded(table("list.csv", "id,0,1", *one_hot))[0] == ["0", "1"]


@pytest.mark.parametrize(
    ("lines", "encoding"),
    [
        (["sep=,", "id,label", *ROWS], "utf-8"),
        (["sep=;", "id;label", *[row.replace(",", ";") for row in ROWS]], "utf-8-sig"),
        (["id|label", *[row.replace(",", "|") for row in ROWS]], "utf-8"),
        (["id\tlabel", *[row.replace(",", "\t") for row in ROWS]], "utf-16"),
        (["id,label,,", *[f"{row},," for row in ROWS]], "utf-8"),
        ([",id,label", *[f"{i},{row}" for i, row in enumerate(ROWS)]], "utf-8"),
        (['"id, or name, of it, if any";label', *[row.replace(",", ";") for row in ROWS]], "utf-8"),
        (['id,"a;b;c;d;e",label', *[f"{i},1;2,{'ab'[i % 2]}" for i in range(8)]], "utf-8"),
        (["id,size;in;mm,label", *[f"{i},3,{'ab'[i % 2]}" for i in range(8)]], "utf-8"),
        (['id,5";6";7";8";9",label', *[f"{i},3,{'ab'[i % 2]}" for i in range(8)]], "utf-8"),
    ],
)
def test_tables_as_programs_write_them(images: Path, lines: list[str], encoding: str) -> None:
    assert loaded(table("list.csv", *lines, encoding=encoding))[:2] == (["a", "b"], {"train": 6, "valid": 2})


def test_a_ragged_table_is_refused_by_the_likeliest_separator(images: Path) -> None:
    message = refused(table("list.csv", "id,label", *ROWS[:4], "4,a,b", *ROWS[5:]))
    assert "line 6: 3 values found, 2 expected" in message


@pytest.mark.parametrize("yes", ["True", "TRUE", "true"])
def test_columns_of_true_and_false_are_one_hot(images: Path, yes: str) -> None:
    no = {"True": "False", "TRUE": "FALSE", "true": "false"}[yes]
    rows = [f"{i},{yes if i % 2 else no},{no if i % 2 else yes}" for i in range(8)]
    path = table("list.csv", "id,cat,dog", *rows)
    spec = DataSpec(form="csv", path="d", train=path.name, images="images", label_columns=("cat", "dog"))
    data = load_dataset(spec, Path("runs"))
    assert dict(zip(data.splits["valid"].ids.tolist(), data.splits["valid"].targets.tolist(), strict=True)) == {
        name: 1 - int(name) % 2 for name in data.splits["valid"].ids.tolist()
    }
    table("list.csv", "id,cat,dog", *[f"{i},{i % 2},{1 - i % 2}" for i in range(8)])
    assert load_dataset(spec, Path("runs")).fingerprint == data.fingerprint
    assert guess_spec(path).label_columns == ("cat", "dog")
    table("list.csv", "id,cat,dog", *rows[:7], f"7,{yes},{yes}")
    assert "two positive" in refused(spec)


def test_text_in_another_encoding_is_refused_with_what_to_do(images: Path) -> None:
    assert "UTF-8" in refused(table("list.csv", "id,label", "0,é", "1,a", encoding="latin-1"))


@pytest.mark.parametrize(
    ("spelled", "note"),
    [
        ("{i}.PNG", "another case"),
        ("../input/comp/images/{i}.png", "leading folders"),
        ("C:\\data\\images\\{i}.png", "leading folders"),
        ("{root}/d/images/{i}.png", ""),
    ],
)
def test_names_as_tables_spell_them(images: Path, here: Path, spelled: str, note: str) -> None:
    rows = [f"{spelled.format(i=i, root=here.as_posix())},{'ab'[i % 2]}" for i in range(8)]
    _, sizes, notes = loaded(table("list.csv", "file,label", *rows))
    assert sizes == {"train": 6, "valid": 2}
    assert notes[-1] == "list.csv: ids from 'file', labels from 'label'"
    assert [note in line for line in notes[:-1]] == ([True] if note else [])


@pytest.mark.parametrize(
    ("spelled", "advice"), [("{}.jpg", "0.png is there"), ("{}.0", "decimal numbers"), ("x{}", "column of the ids")]
)
def test_names_that_are_not_there_get_advice(images: Path, spelled: str, advice: str) -> None:
    rows = [f"{spelled.format(i)},{'ab'[i % 2]}" for i in range(8)]
    assert advice in refused(table("list.csv", "file,label", *rows))


def test_an_image_that_is_lost_is_not_taken_from_another_folder() -> None:
    root = draw(*[f"train/{i}.png" for i in range(8)], *[f"test/{i}.png" for i in range(8)])
    rows = [f"train/{i}.png,{'ab'[i % 2]}" for i in range(8)]
    table("train.csv", "file,label", *rows)
    assert loaded(root)[1]["train"] == 6
    (root / "train" / "3.png").unlink()
    assert "'train/3.png'" in refused(root)


def test_the_same_names_in_train_and_test_are_told_apart_by_their_folders() -> None:
    root = draw(*[f"train_images/{i}.png" for i in range(8)], *[f"test_images/{i}.png" for i in range(4)])
    table("train.csv", "id,label", *ROWS)
    table("test.csv", "id", "0.png", "1.png")
    data = load_dataset(guess_spec(root), Path("runs"))
    assert all(path.startswith("train_images/") for path in data.splits["train"].paths)
    assert data.splits["test"].paths.tolist() == ["test_images/0.png", "test_images/1.png"]


def test_images_in_no_table_are_counted(images: Path) -> None:
    notes = loaded(table("list.csv", "id,label", *ROWS[:6]))[2]
    assert len(notes) == 2 and "2 images are in no table" in notes[0] and "'6.png', '7.png'" in notes[0]


def test_repeated_ids_name_the_key(images: Path) -> None:
    path = table("list.csv", "patient,file,label", *[f"p{i // 2},{row}" for i, row in enumerate(ROWS)])
    spec = DataSpec(form="csv", path="d", train=path.name, label_column="label")
    assert "data.id_column" in refused(spec) and "'row 1'" not in refused(spec)
    notes = loaded(path)[2]
    assert any("data.group_column: patient" in line for line in notes)
    assert "group_column: patient" in refused(spec.model_copy(update={"id_column": "file", "groups": "patient"}))


@pytest.mark.parametrize("values", ["train val test", "Training Validation Testing", "TRAIN dev pred"])
def test_a_column_may_say_the_split(images: Path, values: str) -> None:
    train, valid, test = values.split()
    splits = [train] * 4 + [valid] * 2 + [test] * 2
    path = table("list.csv", "id,split,label", *[f"{i},{splits[i]},{'ab'[i % 2]}" for i in range(8)])
    assert guess_spec(path).split_column == "split"
    data = load_dataset(guess_spec(path), Path("runs"))
    assert {split: items.ids.tolist() for split, items in data.splits.items()} == {
        "train": ["0", "1", "2", "3"],
        "valid": ["4", "5"],
        "test": ["6", "7"],
    }
    separate = [f"{i},{'ab'[i % 2]}" for i in range(8)]
    table("a.csv", "id,label", *separate[:4])
    table("b.csv", "id,label", *separate[4:6])
    other = load_dataset(DataSpec(form="csv", path="d", train="a.csv", valid="b.csv"), Path("runs"))
    assert data.fingerprint == other.fingerprint


@pytest.mark.parametrize("values", ["False True", "false true", "0 1"])
def test_fastai_s_column_is_valid_says_the_split(images: Path, values: str) -> None:
    no, yes = values.split()
    path = table("list.csv", "id,is_valid,label", *[f"{i},{yes if i > 5 else no},{'ab'[i % 2]}" for i in range(8)])
    spec = guess_spec(path)
    assert spec.split_column == "is_valid" and spec.label_column == "label"
    assert loaded(spec)[1] == {"train": 6, "valid": 2}


def test_placeholders_for_labels_of_a_test_are_named(images: Path) -> None:
    path = table("train.csv", "id,label", *ROWS)
    for labels, named in (("aaaaaa", True), ("ababab", False)):
        table("test.csv", "id,label", *[f"{i},{label}" for i, label in enumerate(labels)])
        notes: list[str] = []
        load_dataset(guess_spec(path), Path("runs"), note=notes.append)
        assert any("all 6 rows of test are labelled a" in line for line in notes) == named


def test_a_split_column_is_checked(images: Path) -> None:
    path = table("list.csv", "id,split,label", *[f"{i},{'train' if i else 'left'},{'ab'[i % 2]}" for i in range(8)])
    spec = DataSpec(form="csv", path="d", train=path.name, split_column="split", label_column="label")
    assert "'left'" in refused(spec) and "data.split_column" in refused(spec)
    table("list.csv", "id,split,label", *[f"{i},{'train' if i else 'val'},{'ab'[i % 2]}" for i in range(8)])
    assert "data.split_column" in refused(spec.model_copy(update={"valid": 0.5}), code=2)
    assert loaded(spec)[1] == {"train": 7, "valid": 1}
    table("list.csv", "id,split,label", "0,test,a", "1,train,a", "1,train,b", "2,train,b")
    assert "row 2 and row 3" in refused(spec)


def test_tables_that_look_like_splits_and_are_not_used_are_named(images: Path) -> None:
    table("train.csv", "id,label", *ROWS)
    table("dev_set.csv", "id,label", *ROWS)
    draw("test_images/9.png")
    notes = loaded(DataSpec(form="csv", path="d", train="train.csv", images="images", label_column="label"))[2]
    assert any("'dev_set.csv'" in line and "data.valid" in line for line in notes)
    assert any("'test_images'" in line and "data.test" in line for line in notes)


def test_the_layout_of_dog_breeds() -> None:
    root = draw(*[f"train/{i}.png" for i in range(8)], *[f"test/t{i}.png" for i in range(3)])
    table("labels.csv", "id,breed", *[f"{i},{'ab'[i % 2]}" for i in range(8)])
    table("sample_submission.csv", "id,a,b", *[f"t{i},0.5,0.5" for i in range(3)])
    assert loaded(root) == (
        ["a", "b"],
        {"train": 6, "valid": 2, "test": 3},
        ["labels.csv: ids from 'id', labels from 'breed', test from test"],
    )


def test_folders_that_hold_the_images_of_a_table_are_no_classes() -> None:
    root = draw(*[f"part_{1 + i // 4}/{i}.png" for i in range(8)])
    table("meta.csv", "lesion_id,image_id,dx,age", *[f"L{i // 2},{i},{'ab'[i // 2 % 2]},{i}" for i in range(8)])
    assert loaded(root)[0] == ["a", "b"]
    assert guess_spec(root).train == "meta.csv"


def test_a_home_folder_is_written_out(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
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


# ens init and ens check ------------------------------------------------------------------------------------------


def init(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str, str]:
    """The recipe, stdout, stderr."""
    assert ens(["init", str(path), "--force"]) == 0
    out, err = capsys.readouterr()
    return Path("ens.yaml").read_text(), out, err


def test_init_gives_each_column_a_reason_and_the_recipe_loads(capsys: pytest.CaptureFixture[str]) -> None:
    draw(*[f"train/{i}.png" for i in range(16)], *[f"test/t{i}.png" for i in range(3)])
    header = "patient_id,image,diagnosis,age,fold"
    path = table("train.csv", header, *[f"p{i // 2},{i},{'ab'[i // 2 % 2]},{i},{i % 5}" for i in range(16)])
    table("test.csv", "image", "t0", "t1", "t2")
    table("sample_submission.csv", "image,diagnosis", "t0,a", "t1,a", "t2,a")
    text, out, err = init(path, capsys)
    spec = read_recipe_file(Path("ens.yaml"))
    assert (spec.data.id_column, spec.data.label_column) == ("image", "diagnosis")
    assert (spec.data.group_column, spec.data.test) == ("patient_id", "test.csv")
    assert (spec.submit.sample, spec.submit.format) == (str(Path("d/sample_submission.csv")), "kaggle")
    for key in ("id_column", "label_column", "group_column", "test"):
        lines = text.splitlines()
        at = next(at for at, line in enumerate(lines) if line.startswith(f"  {key}:"))
        assert lines[at - 1].startswith("  # ") and f"{key}: " in err
    assert "# fold: 5 different values" in text and "QUESTION" not in text and "ens train" in out
    assert ens(["check", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["classes"] == ["a", "b"] and not facts["shared_groups"]


def test_init_asks_where_it_cannot_tell(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{i}.png,{i % 3},{'mf'[i % 2]},{'xy'[i // 4]},{'ab'[i % 2]},{i % 3},red" for i in range(8)]
    path = table("list.csv", "id,age,sex,place,kind,grade,colour", *rows)
    text, out, _ = init(path, capsys)
    assert "# QUESTION: which column is the label?" in text and "kind: 2 different values such as a, b" in text
    assert "data.label_column" in out
    assert ens(["check"]) == 3
    assert "set data.label_column" in capsys.readouterr().err
    Path("ens.yaml").write_text(text.replace("# label_column: ...", "label_column: kind"))
    assert ens(["check"]) == 0


def test_a_table_without_labels_says_so(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table("list.csv", "file", *[f"{i}.png" for i in range(8)])
    assert "no column is left for the label" in refused(path)
    assert "which column is the label? none is left" in init(path, capsys)[0]


def test_init_asks_what_rows_of_zeros_mean(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(
        "list.csv", "id,melanoma,keratosis", *[f"{i},{int(i % 3 == 0)},{int(i % 3 == 1)}" for i in range(8)]
    )
    text, _, _ = init(path, capsys)
    Path("ens.yaml").write_text(text.replace("# unnamed_class: ...", "unnamed_class: nevus"))
    assert ens(["check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == ["melanoma", "keratosis", "nevus"]


def test_init_of_a_split_column_and_of_class_folders(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{i},{'train' if i % 4 else 'test'},{'ab'[i // 4]}" for i in range(8)]
    text, _, err = init(table("list.csv", "id,phase,label", *rows), capsys)
    assert "split_column: phase" in text and "split_column: phase" in err
    assert ens(["check"]) == 0
    text, _, err = init(classes("seg_train/seg_train", "seg_test/seg_test", root="e"), capsys)
    assert "train: seg_train/seg_train" in text and "test: seg_test/seg_test" in err
    assert ens(["check"]) == 0


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_twelve_bits_in_sixteen_are_named(ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    for i in range(16):
        path = Path("d/train", "ab"[i % 2], f"{i}.{ending}")
        path.parent.mkdir(parents=True, exist_ok=True)
        values = random.integers(0, 4096 if i < 12 else 65536, (8, 8)).astype(np.uint16)
        Image.fromarray(values).save(path)
    notes = loaded(Path("d"))[2]
    assert len(notes) == 1 and "16-bit images" in notes[0] and "multiply" in notes[0]
    assert ens(["check", "--data", "d"]) == 0
    out = capsys.readouterr().out
    assert "! 12 16-bit files have no value above 4095" in out and "nothing to do" not in out
    for path in Path("d").rglob(f"*.{ending}"):
        Image.fromarray(random.integers(0, 65536, (8, 8)).astype(np.uint16)).save(path)
    assert loaded(Path("d"))[2] == []
