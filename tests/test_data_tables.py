"""Laws of CSV data: text stays text, columns mean what the recipe says, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.photos import flat_images
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ensemble.core.errors import EnsError
from ensemble.data.columns import one_hot_labels, soft_rows
from ensemble.data.load import load_dataset
from ensemble.recipe.schema import DataSpec


def load(root: Path, **keys: object):
    return load_dataset(DataSpec(form="csv", path=str(root), **keys), root.parent / "runs")


def refused(root: Path, code: int = 3, **keys: object) -> str:
    with pytest.raises(EnsError) as caught:
        load(root, **keys)
    assert caught.value.exit_code == code and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    root = flat_images(tmp_path / "d", *[f"images/{row:04}.png" for row in range(8)])
    write(root / "train.csv", "id,label", *[f"{row:04},{'NA' if row % 2 else 'null'}" for row in range(6)])
    write(root / "test.csv", "id", "0007", "0006")
    return root


def write(path: Path, *lines: str) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_text_stays_text_and_tests_keep_their_order(table: Path) -> None:
    data = load(table, images="images")
    train, valid = data.splits["train"], data.splits["valid"]
    assert sorted([*train.ids, *valid.ids]) == [f"{row:04}" for row in range(6)]
    assert data.classes.tolist() == ["NA", "null"]
    assert data.splits["test"].ids.tolist() == ["0007", "0006"]
    assert data.splits["test"].targets.tolist() == [-1, -1]
    assert data.open_image(data.splits["test"].paths[0]).getpixel((0, 0)) == (7, 0, 248)


def test_a_validation_table_beside_train_is_taken(table: Path) -> None:
    write(table / "valid.csv", "id,label", "0006,NA")
    assert load(table).splits["valid"].ids.tolist() == ["0006"]


def test_the_order_of_rows_decides_nothing(table: Path) -> None:
    first = load(table)
    header, *rows = (table / "train.csv").read_text().splitlines()
    write(table / "train.csv", header, *reversed(rows))
    again = load(table)
    assert again.fingerprint == first.fingerprint
    assert again.splits["train"].ids.tolist() == first.splits["train"].ids.tolist()


@pytest.mark.parametrize(
    ("header", "separator", "prefix"),
    [("id,label", ",", "\ufeff"), ("id;label", ";", ""), ("id\tlabel", "\t", "")],
)
def test_separators_marks_and_spaces(table: Path, header: str, separator: str, prefix: str) -> None:
    plain = load(table)
    rows = [f" {row:04} {separator} {'NA' if row % 2 else 'null'}" for row in range(6)]
    (table / "train.csv").write_bytes("\r\n".join([prefix + header, *rows, ""]).encode())
    assert load(table).fingerprint == plain.fingerprint


def test_file_names_in_the_id_column_lose_their_extension(table: Path) -> None:
    plain = load(table)
    rows = [f"{row:04}.png,{'NA' if row % 2 else 'null'}" for row in range(6)]
    write(table / "train.csv", "image,label", *rows)
    write(table / "test.csv", "image", "0007.png", "0006.png")
    data = load(table)
    assert data.fingerprint == plain.fingerprint
    assert data.test_fingerprints == plain.test_fingerprints


def test_a_path_column_with_and_without_ids(tmp_path: Path) -> None:
    root = flat_images(tmp_path / "d", *[f"photos/{label}/{row}.png" for label in "ab" for row in range(3)])
    rows = [f"{label}{row}.png,./{label}/{row}.png,{label}" for label in "ab" for row in range(3)]
    write(root / "train.csv", "name,file,label", *rows)
    keys = {"images": "photos", "path_column": "file", "label_column": "label"}
    data = load(root, **keys)
    assert {*data.splits["train"].ids, *data.splits["valid"].ids} == {f"{a}/{i}" for a in "ab" for i in range(3)}
    named = load(root, **keys, id_column="name")
    assert "a0.png" in {*named.splits["train"].ids, *named.splits["valid"].ids}


def test_an_id_is_found_in_the_folder_of_its_table_first(tmp_path: Path) -> None:
    root = flat_images(tmp_path / "d", *[f"{split}/{row}.png" for split in ("train", "test") for row in range(4)])
    write(root / "train.csv", "id,label", "0,a", "1,a", "2,b", "3,b")
    write(root / "test.csv", "id", "3")
    data = load(root)
    assert all(path.startswith("train/") for path in data.splits["train"].paths)
    assert data.splits["test"].paths.tolist() == ["test/3.png"]
    write(root / "train.csv", "id,label", "train/0,a", "train/1,a", "test/2,b", "test/3,b")
    assert "test/2" in {*load(root).splits["train"].ids, *load(root).splits["valid"].ids}


def test_an_ambiguous_name_is_refused_and_settled_by_the_extension(table: Path) -> None:
    flat_images(table, "images/0001.jpg")
    assert "0001" in refused(table, images="images") and "data.extension" in refused(table, images="images")
    for extension in ("png", ".PNG"):
        assert load(table, images="images", extension=extension).splits["test"].ids.tolist() == [
            "0007",
            "0006",
        ]


def test_a_flat_folder_of_test_images(table: Path) -> None:
    (table / "test.csv").unlink()
    flat_images(table, "unseen/b10.png", "unseen/b9.png")
    data = load(table, images="images", test="unseen")
    assert data.splits["test"].ids.tolist() == ["b9", "b10"]


def test_a_test_may_list_an_image_under_two_ids(table: Path) -> None:
    write(table / "rows.csv", "id,file,label", *[f"{row},{row:04}.png,{'ab'[row % 2]}" for row in range(6)])
    write(table / "twice.csv", "id,file", "x,0006.png", "y,0007.png", "z,0006.png")
    keys = {
        "images": "images",
        "train": "rows.csv",
        "id_column": "id",
        "path_column": "file",
        "label_column": "label",
    }
    notes: list[str] = []
    spec = DataSpec(form="csv", path=str(table), **keys, test="twice.csv", tests={"more": "twice.csv"})
    data = load_dataset(spec, table.parent / "runs", note=notes.append)
    for split in ("test", "test-more"):
        assert data.splits[split].ids.tolist() == ["x", "y", "z"]
        assert data.splits[split].paths.tolist() == [f"images/{name}.png" for name in ("0006", "0007", "0006")]
    assert "twice.csv: 1 of 3 ids of test repeat an image" in notes
    write(table / "valid.csv", "id,file,label", "x,0006.png,a", "y,0007.png,b", "z,0006.png,a")
    assert "two ids" in refused(table, **keys, valid="valid.csv")


def test_one_hot_columns_with_an_unnamed_class(tmp_path: Path) -> None:
    root = flat_images(tmp_path / "d", *[f"x/{row}.png" for row in range(6)])
    rows = ["0,0.0,0.0", "1,1.0,0.0", "2,0.0,1.0", "3,0,0", "4,1,0", "5,0,1"]
    write(root / "train.csv", "image_id,melanoma,keratosis", *rows)
    keys = {"label_columns": ("melanoma", "keratosis")}
    data = load(root, **keys, unnamed_class="nevus", valid=0.5)
    assert data.classes.tolist() == ["melanoma", "keratosis", "nevus"]
    truth = {"0": 2, "1": 0, "2": 1, "3": 2, "4": 0, "5": 1}
    for split in ("train", "valid"):
        items = data.splits[split]
        assert [truth[name] for name in items.ids] == items.targets.tolist() and items.soft is None
    order = ("nevus", "keratosis", "melanoma")
    assert load(root, **keys, unnamed_class="nevus", classes=order).classes.tolist() == list(order)
    assert "'0', '3'" in refused(root, **keys) and "data.unnamed_class" in refused(root, **keys)
    write(root / "train.csv", "image_id,melanoma,keratosis", *rows[:5], "5,1,1")
    assert "two positive" in refused(root, **keys, unnamed_class="nevus")


def test_soft_labels(tmp_path: Path) -> None:
    root = flat_images(tmp_path / "d", *[f"x/{row}.png" for row in range(4)])
    write(root / "train.csv", "id,a,b", "0,0.3,0.7", "1,0.9,0.1", "2,0.2495,0.75", "3,1,0")
    keys = {"label_columns": ("a", "b"), "valid": 0.5}
    assert "data.soft_labels: true" in refused(root, **keys)
    data = load(root, **keys, soft_labels=True, classes=("b", "a"))
    items = {name: row for split in ("train", "valid") for name, row in soft_by_id(data.splits[split])}
    assert items["0"] == pytest.approx([0.7, 0.3]) and items["3"] == [0, 1]
    assert sum(items["2"]) == pytest.approx(1, abs=1e-6)
    targets = dict(zip(data.splits["train"].ids, data.splits["train"].targets, strict=True))
    assert all(target == int(np.argmax(items[name])) for name, target in targets.items())
    write(root / "train.csv", "id,a,b", "0,0.3,0.6", "1,0.9,0.1", "2,0.25,0.75", "3,1,0")
    assert "sum to one" in refused(root, **keys, soft_labels=True)


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
def test_one_hot_rows_give_back_their_class(targets: list[int]) -> None:
    values = np.eye(4)[targets][:, :3]
    names = ["a", "b", "c", "rest"]
    result = one_hot_labels(values, [str(row) for row in range(len(targets))], names, True, "t")
    assert result == [names[target] for target in targets]


def test_numeric_labels_with_a_list_of_names(tmp_path: Path) -> None:
    root = flat_images(tmp_path / "d", *[f"x/{row}.png" for row in range(4)])
    write(root / "train.csv", "id,label", "0,1", "1,0", "2,1", "3,0")
    write(root / "test.csv", "id,label", "1,1", "2,")
    data = load(root, classes=("zero", "one"), valid=0.5)
    assert data.splits["test"].targets.tolist() == [1, -1]
    train = data.splits["train"]
    assert train.targets.tolist() == [1 - int(name) % 2 for name in train.ids]
    assert load(root, classes=("1", "0"), valid=0.5).splits["test"].targets.tolist() == [0, -1]
    write(root / "test.csv", "id,label", "1,2")
    assert "'2'" in refused(root, classes=("zero", "one"), valid=0.5)


def test_groups_stay_whole(tmp_path: Path) -> None:
    root = flat_images(tmp_path / "d", *[f"x/{row}.png" for row in range(20)])
    rows = [f"{row},{'ab'[row // 2 % 2]},patient-{row // 2}" for row in range(20)]
    write(root / "train.csv", "id,label,patient", *rows)
    data = load(root, group_column="patient")
    train, valid = data.splits["train"], data.splits["valid"]
    assert len(valid) == 4 and not set(train.groups) & set(valid.groups)
    write(root / "train.csv", "id,label,patient", *rows[:-1], "19,b,")
    assert "'19'" in refused(root, group_column="patient")


@pytest.mark.parametrize(
    ("lines", "keys", "expected"),
    [
        (["id,label"], {}, "no rows"),
        (["id,label", "0000,a", "0001"], {}, "line 3"),
        (["id,label", "0000,a", "0000,b"], {}, "not unique"),
        (["id,label", "0000,a", "9999,b"], {}, "'9999'"),
        (["id,label", "0000,a", "0001,"], {}, "without a label: '0001'"),
        (["id,label", "0000,a", ",b"], {}, "without an id: 'row 2'"),
        (["id,label,label", "0000,a,b"], {}, "same name"),
        (["id,label,age", "0000,a,3"], {}, "data.label_column"),
        (["id,label", "0000,a", "0001,b"], {"label_column": "labl"}, "did you mean 'label'"),
        (["id,label", "0000,a", "0001,b"], {"id_column": "image"}, "data.id_column"),
        (["id,label", "0000,a", "0001,b"], {"images": "nowhere"}, "data.images"),
        (["id,label", "0000,a", "0001,a"], {}, "1 class"),
        (["id,label", '"00\n00",a', "0001,b"], {}, "control characters"),
        (["id,label", '0000,"a', "0001,b"], {}, "CSV"),
        (["id,a,b", "0000,1,0", "0001,x,1"], {"label_columns": ("a", "b")}, "'x'"),
        (["id,a,b", "0000,1,0", "0001,nan,1"], {"label_columns": ("a", "b")}, "'nan'"),
        (["id,a,b", "0000,1,0", "0001,,1"], {"label_columns": ("a", "b")}, "empty"),
        (["id,a,b", "0000,1,0", "0001,,"], {"label_columns": ("a", "b")}, "without a label"),
    ],
)
def test_bad_tables_are_one_line(table: Path, lines: list[str], keys: dict, expected: str) -> None:
    (table / "test.csv").unlink()
    write(table / "train.csv", *lines)
    assert expected in refused(table, **keys)


def test_text_that_is_no_utf8_is_refused(table: Path) -> None:
    (table / "train.csv").write_bytes(b"id,label\n0000,caf\xe9\n")
    assert "UTF-8" in refused(table)


@pytest.mark.parametrize(
    "keys",
    [
        {"label_column": "label", "label_columns": ("a", "b")},
        {"soft_labels": True},
        {"unnamed_class": "x"},
        {"classes": ("a", "a")},
        {"label_columns": ("a", "b", "a")},
    ],
)
def test_keys_that_exclude_each_other_are_a_mistake_in_the_recipe(table: Path, keys: dict) -> None:
    refused(table, code=2, **keys)


def test_an_unnamed_class_has_a_name_and_a_composed_one(tmp_path: Path) -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError, match="a name is expected"):
        DataSpec(form="csv", label_columns=("a", "b"), unnamed_class=" ")
    assert DataSpec(form="csv", label_columns=("a",), unnamed_class="e\u0301").unnamed_class == "\u00e9"


@pytest.mark.parametrize("given", ["images/{}.png", "{root}/images/{}.png", "{}.png", "./images/{}.png"])
def test_a_path_may_repeat_the_folder_of_the_images(tmp_path: Path, given: str) -> None:
    root = flat_images(tmp_path / "d", *[f"images/{row}.png" for row in range(6)])
    rows = [f"{given.format(row, root=root.as_posix())},{'ab'[row % 2]}" for row in range(6)]
    write(root / "train.csv", "file,label", *rows)
    data = load(root, images="images", path_column="file")
    assert {*data.splits["train"].paths, *data.splits["valid"].paths} == {f"images/{row}.png" for row in range(6)}


def test_a_flat_test_folder_beside_the_table_is_the_test_set(table: Path) -> None:
    (table / "test.csv").unlink()
    flat_images(table, "test/b10.png", "test/b9.png")
    data = load(table, images="images")
    assert data.splits["test"].paths.tolist() == ["test/b9.png", "test/b10.png"]
    (table / "test" / "deeper").mkdir()
    (table / "test" / "b9.png").rename(table / "test" / "deeper" / "b9.png")
    assert "test" not in load(table, images="images").splits


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("id,label", '{id}, "{label}"'),
        ("id,label,", "{id},{label},"),
        (",id,label", "7{id},{id},{label}"),
        ("Unnamed: 0,id,label", "7{id},{id},{label}"),
        ("id,label", ".\\{id},{label}"),
        ("id,label", "./{id}.png,{label}"),
    ],
)
def test_tables_as_other_programs_write_them(table: Path, header: str, row: str) -> None:
    plain = load(table)
    rows = [row.format(id=f"{at:04}", label="NA" if at % 2 else "null") for at in range(6)]
    write(table / "train.csv", header, *rows)
    assert load(table, label_column="label").fingerprint == plain.fingerprint


def test_a_line_break_in_a_column_that_nobody_reads_is_no_matter(table: Path) -> None:
    plain = load(table)
    rows = [f'{at:04},{"NA" if at % 2 else "null"},"two\nlines"' for at in range(6)]
    write(table / "train.csv", "id,label,remark", *rows)
    assert load(table, label_column="label").fingerprint == plain.fingerprint


def test_two_ids_for_one_file_are_refused(table: Path) -> None:
    write(table / "train.csv", "id,label", *[f"{row:04},{'ab'[row % 2]}" for row in range(6)], "images/0005,a")
    assert "images/0005.png" in refused(table)
