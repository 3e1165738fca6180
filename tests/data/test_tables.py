"""Tables of data: text stays text, images are found, what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.photos import flat_images
from helpers.table_data import load_table, refused_table, write_lines

from ensemble.data.load import load_dataset
from ensemble.recipe.data_spec import DataSpec


def test_table_text_stays_text_in_order(table: Path) -> None:
    data = load_table(table, images="images")
    train, valid = data.splits["train"], data.splits["valid"]
    assert sorted([*train.ids, *valid.ids]) == [f"{row:04}" for row in range(6)]
    assert data.classes.tolist() == ["NA", "null"]
    assert data.splits["test"].ids.tolist() == ["0007", "0006"]
    assert data.splits["test"].targets.tolist() == [-1, -1]
    assert data.open_image(data.splits["test"].paths[0]).getpixel((0, 0)) == (7, 0, 248)


def test_validation_table_beside_train_is_used(table: Path) -> None:
    write_lines(table / "valid.csv", "id,label", "0006,NA")
    assert load_table(table).splits["valid"].ids.tolist() == ["0006"]


def test_table_ignores_the_order_of_rows(table: Path) -> None:
    first = load_table(table)
    header, *rows = (table / "train.csv").read_text().splitlines()
    write_lines(table / "train.csv", header, *reversed(rows))
    again = load_table(table)
    assert again.fingerprint == first.fingerprint
    assert again.splits["train"].ids.tolist() == first.splits["train"].ids.tolist()


@pytest.mark.parametrize(
    ("header", "separator", "prefix"),
    [("id,label", ",", "\ufeff"), ("id;label", ";", ""), ("id\tlabel", "\t", "")],
)
def test_table_separators_marks_and_spaces(table: Path, header: str, separator: str, prefix: str) -> None:
    plain = load_table(table)
    rows = [f" {row:04} {separator} {'NA' if row % 2 else 'null'}" for row in range(6)]
    (table / "train.csv").write_bytes("\r\n".join([prefix + header, *rows, ""]).encode())
    assert load_table(table).fingerprint == plain.fingerprint


def test_file_names_in_the_id_column_lose_their_extension(table: Path) -> None:
    plain = load_table(table)
    rows = [f"{row:04}.png,{'NA' if row % 2 else 'null'}" for row in range(6)]
    write_lines(table / "train.csv", "image,label", *rows)
    write_lines(table / "test.csv", "image", "0007.png", "0006.png")
    data = load_table(table)
    assert data.fingerprint == plain.fingerprint
    assert data.test_fingerprints == plain.test_fingerprints


def test_path_column_with_and_without_ids(tmp_path: Path) -> None:
    root = flat_images(tmp_path / "d", *[f"photos/{label}/{row}.png" for label in "ab" for row in range(3)])
    rows = [f"{label}{row}.png,./{label}/{row}.png,{label}" for label in "ab" for row in range(3)]
    write_lines(root / "train.csv", "name,file,label", *rows)
    keys = {"images": "photos", "path_column": "file", "label_column": "label"}
    data = load_table(root, **keys)
    assert {*data.splits["train"].ids, *data.splits["valid"].ids} == {f"{a}/{i}" for a in "ab" for i in range(3)}
    named = load_table(root, **keys, id_column="name")
    assert "a0.png" in {*named.splits["train"].ids, *named.splits["valid"].ids}


def test_id_is_found_in_the_folder_of_its_table_first(tmp_path: Path) -> None:
    root = flat_images(tmp_path / "d", *[f"{split}/{row}.png" for split in ("train", "test") for row in range(4)])
    write_lines(root / "train.csv", "id,label", "0,a", "1,a", "2,b", "3,b")
    write_lines(root / "test.csv", "id", "3")
    data = load_table(root)
    assert all(path.startswith("train/") for path in data.splits["train"].paths)
    assert data.splits["test"].paths.tolist() == ["test/3.png"]
    write_lines(root / "train.csv", "id,label", "train/0,a", "train/1,a", "test/2,b", "test/3,b")
    assert "test/2" in {*load_table(root).splits["train"].ids, *load_table(root).splits["valid"].ids}


def test_ambiguous_name_is_settled_by_the_extension(table: Path) -> None:
    flat_images(table, "images/0001.jpg")
    assert "0001" in refused_table(table, images="images") and "data.extension" in refused_table(
        table, images="images"
    )
    for extension in ("png", ".PNG"):
        assert load_table(table, images="images", extension=extension).splits["test"].ids.tolist() == [
            "0007",
            "0006",
        ]


def test_flat_folder_of_test_images(table: Path) -> None:
    (table / "test.csv").unlink()
    flat_images(table, "unseen/b10.png", "unseen/b9.png")
    data = load_table(table, images="images", test="unseen")
    assert data.splits["test"].ids.tolist() == ["b9", "b10"]


def test_table_may_list_a_test_image_twice(table: Path) -> None:
    write_lines(table / "rows.csv", "id,file,label", *[f"{row},{row:04}.png,{'ab'[row % 2]}" for row in range(6)])
    write_lines(table / "twice.csv", "id,file", "x,0006.png", "y,0007.png", "z,0006.png")
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
    write_lines(table / "valid.csv", "id,file,label", "x,0006.png,a", "y,0007.png,b", "z,0006.png,a")
    assert "two ids" in refused_table(table, **keys, valid="valid.csv")


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
    write_lines(table / "train.csv", *lines)
    assert expected in refused_table(table, **keys)


def test_table_that_is_not_utf8_is_refused(table: Path) -> None:
    (table / "train.csv").write_bytes(b"id,label\n0000,caf\xe9\n")
    assert "UTF-8" in refused_table(table)


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
def test_table_keys_that_exclude_each_other_are_refused(table: Path, keys: dict) -> None:
    refused_table(table, code=2, **keys)


@pytest.mark.parametrize("given", ["images/{}.png", "{root}/images/{}.png", "{}.png", "./images/{}.png"])
def test_path_may_repeat_the_image_folder(tmp_path: Path, given: str) -> None:
    root = flat_images(tmp_path / "d", *[f"images/{row}.png" for row in range(6)])
    rows = [f"{given.format(row, root=root.as_posix())},{'ab'[row % 2]}" for row in range(6)]
    write_lines(root / "train.csv", "file,label", *rows)
    data = load_table(root, images="images", path_column="file")
    assert {*data.splits["train"].paths, *data.splits["valid"].paths} == {f"images/{row}.png" for row in range(6)}


def test_flat_test_folder_beside_the_table_is_the_test_set(table: Path) -> None:
    (table / "test.csv").unlink()
    flat_images(table, "test/b10.png", "test/b9.png")
    data = load_table(table, images="images")
    assert data.splits["test"].paths.tolist() == ["test/b9.png", "test/b10.png"]
    (table / "test" / "deeper").mkdir()
    (table / "test" / "b9.png").rename(table / "test" / "deeper" / "b9.png")
    assert "test" not in load_table(table, images="images").splits


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
def test_tables_of_other_programs(table: Path, header: str, row: str) -> None:
    plain = load_table(table)
    rows = [row.format(id=f"{at:04}", label="NA" if at % 2 else "null") for at in range(6)]
    write_lines(table / "train.csv", header, *rows)
    assert load_table(table, label_column="label").fingerprint == plain.fingerprint


def test_line_break_in_an_unused_column_is_ignored(table: Path) -> None:
    plain = load_table(table)
    rows = [f'{at:04},{"NA" if at % 2 else "null"},"two\nlines"' for at in range(6)]
    write_lines(table / "train.csv", "id,label,remark", *rows)
    assert load_table(table, label_column="label").fingerprint == plain.fingerprint


def test_two_ids_for_one_file_are_refused(table: Path) -> None:
    write_lines(
        table / "train.csv", "id,label", *[f"{row:04},{'ab'[row % 2]}" for row in range(6)], "images/0005,a"
    )
    assert "images/0005.png" in refused_table(table)
