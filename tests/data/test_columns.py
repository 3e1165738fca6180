"""Columns of labels: one-hot, soft, numeric, groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.layouts import ROWS, loaded, refused, write_table
from helpers.photos import flat_images
from helpers.table_data import load_table, refused_table, write_lines
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ensemble.data.columns import one_hot_labels, soft_rows
from ensemble.data.detect_form import guess_spec
from ensemble.data.load import load_dataset
from ensemble.recipe.data_spec import DataSpec


def test_one_hot_columns_with_an_unnamed_class(tmp_path: Path) -> None:
    root = flat_images(tmp_path / "d", *[f"x/{row}.png" for row in range(6)])
    rows = ["0,0.0,0.0", "1,1.0,0.0", "2,0.0,1.0", "3,0,0", "4,1,0", "5,0,1"]
    write_lines(root / "train.csv", "image_id,melanoma,keratosis", *rows)
    keys = {"label_columns": ("melanoma", "keratosis")}
    data = load_table(root, **keys, unnamed_class="nevus", valid=0.5)
    assert data.classes.tolist() == ["melanoma", "keratosis", "nevus"]
    truth = {"0": 2, "1": 0, "2": 1, "3": 2, "4": 0, "5": 1}
    for split in ("train", "valid"):
        items = data.splits[split]
        assert [truth[name] for name in items.ids] == items.targets.tolist() and items.soft is None
    order = ("nevus", "keratosis", "melanoma")
    assert load_table(root, **keys, unnamed_class="nevus", classes=order).classes.tolist() == list(order)
    assert "'0', '3'" in refused_table(root, **keys) and "data.unnamed_class" in refused_table(root, **keys)
    write_lines(root / "train.csv", "image_id,melanoma,keratosis", *rows[:5], "5,1,1")
    assert "two positive" in refused_table(root, **keys, unnamed_class="nevus")


def test_soft_label_columns(tmp_path: Path) -> None:
    root = flat_images(tmp_path / "d", *[f"x/{row}.png" for row in range(4)])
    write_lines(root / "train.csv", "id,a,b", "0,0.3,0.7", "1,0.9,0.1", "2,0.2495,0.75", "3,1,0")
    keys = {"label_columns": ("a", "b"), "valid": 0.5}
    assert "data.soft_labels: true" in refused_table(root, **keys)
    data = load_table(root, **keys, soft_labels=True, classes=("b", "a"))
    items = {name: row for split in ("train", "valid") for name, row in soft_by_id(data.splits[split])}
    assert items["0"] == pytest.approx([0.7, 0.3]) and items["3"] == [0, 1]
    assert sum(items["2"]) == pytest.approx(1, abs=1e-6)
    targets = dict(zip(data.splits["train"].ids, data.splits["train"].targets, strict=True))
    assert all(target == int(np.argmax(items[name])) for name, target in targets.items())
    write_lines(root / "train.csv", "id,a,b", "0,0.3,0.6", "1,0.9,0.1", "2,0.25,0.75", "3,1,0")
    assert "sum to one" in refused_table(root, **keys, soft_labels=True)


def soft_by_id(items) -> list[tuple[str, list[float]]]:
    return list(zip(items.ids.tolist(), items.soft.tolist(), strict=True))


@given(arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(2, 4)), elements=st.floats(0.01, 1)))
def test_soft_rows_sum_to_one_with_and_without_an_unnamed_class(values: np.ndarray) -> None:
    whole = values / values.sum(axis=1, keepdims=True)
    ids = [str(row) for row in range(len(values))]
    soft = soft_rows(whole, ids, False, "t")
    assert np.allclose(soft, whole) and np.allclose(soft.sum(axis=1), 1, atol=1e-6)
    shared = soft_rows(whole / 2, ids, True, "t")
    assert np.allclose(shared[:, -1], 0.5) and np.allclose(shared[:, :-1], whole / 2)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_one_hot_rows_are_their_class(targets: list[int]) -> None:
    values = np.eye(4)[targets][:, :3]
    names = ["a", "b", "c", "rest"]
    result = one_hot_labels(values, [str(row) for row in range(len(targets))], names, True, "t")
    assert result == [names[target] for target in targets]


def test_numeric_labels_with_a_list_of_names(tmp_path: Path) -> None:
    root = flat_images(tmp_path / "d", *[f"x/{row}.png" for row in range(4)])
    write_lines(root / "train.csv", "id,label", "0,1", "1,0", "2,1", "3,0")
    write_lines(root / "test.csv", "id,label", "1,1", "2,")
    data = load_table(root, classes=("zero", "one"), valid=0.5)
    assert data.splits["test"].targets.tolist() == [1, -1]
    train = data.splits["train"]
    assert train.targets.tolist() == [1 - int(name) % 2 for name in train.ids]
    assert load_table(root, classes=("1", "0"), valid=0.5).splits["test"].targets.tolist() == [0, -1]
    write_lines(root / "test.csv", "id,label", "1,2")
    assert "'2'" in refused_table(root, classes=("zero", "one"), valid=0.5)


def test_group_column_keeps_groups_whole(tmp_path: Path) -> None:
    root = flat_images(tmp_path / "d", *[f"x/{row}.png" for row in range(20)])
    rows = [f"{row},{'ab'[row // 2 % 2]},patient-{row // 2}" for row in range(20)]
    write_lines(root / "train.csv", "id,label,patient", *rows)
    data = load_table(root, group_column="patient")
    train, valid = data.splits["train"], data.splits["valid"]
    assert len(valid) == 4 and not set(train.groups) & set(valid.groups)
    write_lines(root / "train.csv", "id,label,patient", *rows[:-1], "19,b,")
    assert "'19'" in refused_table(root, group_column="patient")


def test_unnamed_class_has_a_composed_name(tmp_path: Path) -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError, match="a name is expected"):
        DataSpec(form="csv", label_columns=("a", "b"), unnamed_class=" ")
    assert DataSpec(form="csv", label_columns=("a",), unnamed_class="e\u0301").unnamed_class == "\u00e9"


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("yes", ["True", "TRUE", "true"])
def test_columns_of_true_and_false_are_one_hot(numbered_images: Path, yes: str) -> None:
    no = {"True": "False", "TRUE": "FALSE", "true": "false"}[yes]
    rows = [f"{i},{yes if i % 2 else no},{no if i % 2 else yes}" for i in range(8)]
    path = write_table("list.csv", "id,cat,dog", *rows)
    spec = DataSpec(form="csv", path="d", train=path.name, images="images", label_columns=("cat", "dog"))
    data = load_dataset(spec, Path("runs"))
    assert dict(zip(data.splits["valid"].ids.tolist(), data.splits["valid"].targets.tolist(), strict=True)) == {
        name: 1 - int(name) % 2 for name in data.splits["valid"].ids.tolist()
    }
    write_table("list.csv", "id,cat,dog", *[f"{i},{i % 2},{1 - i % 2}" for i in range(8)])
    assert load_dataset(spec, Path("runs")).fingerprint == data.fingerprint
    assert guess_spec(path).label_columns == ("cat", "dog")
    write_table("list.csv", "id,cat,dog", *rows[:7], f"7,{yes},{yes}")
    assert "two positive" in refused(spec)


@pytest.mark.usefixtures("here")
def test_repeated_ids_name_the_key(numbered_images: Path) -> None:
    path = write_table("list.csv", "patient,file,label", *[f"p{i // 2},{row}" for i, row in enumerate(ROWS)])
    spec = DataSpec(form="csv", path="d", train=path.name, label_column="label")
    assert "data.id_column" in refused(spec) and "'row 1'" not in refused(spec)
    notes = loaded(path)[2]
    assert any("data.group_column: patient" in line for line in notes)
    assert "group_column: patient" in refused(spec.model_copy(update={"id_column": "file", "groups": "patient"}))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("values", ["train val test", "Training Validation Testing", "TRAIN dev pred"])
def test_split_column(numbered_images: Path, values: str) -> None:
    train, valid, test = values.split()
    splits = [train] * 4 + [valid] * 2 + [test] * 2
    path = write_table("list.csv", "id,split,label", *[f"{i},{splits[i]},{'ab'[i % 2]}" for i in range(8)])
    assert guess_spec(path).split_column == "split"
    data = load_dataset(guess_spec(path), Path("runs"))
    assert {split: items.ids.tolist() for split, items in data.splits.items()} == {
        "train": ["0", "1", "2", "3"],
        "valid": ["4", "5"],
        "test": ["6", "7"],
    }
    separate = [f"{i},{'ab'[i % 2]}" for i in range(8)]
    write_table("a.csv", "id,label", *separate[:4])
    write_table("b.csv", "id,label", *separate[4:6])
    other = load_dataset(DataSpec(form="csv", path="d", train="a.csv", valid="b.csv"), Path("runs"))
    assert data.fingerprint == other.fingerprint


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("values", ["False True", "false true", "0 1"])
def test_is_valid_column_of_fastai(numbered_images: Path, values: str) -> None:
    no, yes = values.split()
    path = write_table(
        "list.csv", "id,is_valid,label", *[f"{i},{yes if i > 5 else no},{'ab'[i % 2]}" for i in range(8)]
    )
    spec = guess_spec(path)
    assert spec.split_column == "is_valid" and spec.label_column == "label"
    assert loaded(spec)[1] == {"train": 6, "valid": 2}


@pytest.mark.usefixtures("here")
def test_placeholder_labels_of_a_test_are_named(numbered_images: Path) -> None:
    path = write_table("train.csv", "id,label", *ROWS)
    for labels, named in (("aaaaaa", True), ("ababab", False)):
        write_table("test.csv", "id,label", *[f"{i},{label}" for i, label in enumerate(labels)])
        notes: list[str] = []
        load_dataset(guess_spec(path), Path("runs"), note=notes.append)
        assert any("all 6 rows of test are labelled a" in line for line in notes) == named


@pytest.mark.usefixtures("here")
def test_split_column_is_checked(numbered_images: Path) -> None:
    path = write_table(
        "list.csv", "id,split,label", *[f"{i},{'train' if i else 'left'},{'ab'[i % 2]}" for i in range(8)]
    )
    spec = DataSpec(form="csv", path="d", train=path.name, split_column="split", label_column="label")
    assert "'left'" in refused(spec) and "data.split_column" in refused(spec)
    write_table("list.csv", "id,split,label", *[f"{i},{'train' if i else 'val'},{'ab'[i % 2]}" for i in range(8)])
    assert "data.split_column" in refused(spec.model_copy(update={"valid": 0.5}), code=2)
    assert loaded(spec)[1] == {"train": 7, "valid": 1}
    write_table("list.csv", "id,split,label", "0,test,a", "1,train,a", "1,train,b", "2,train,b")
    assert "row 2 and row 3" in refused(spec)
