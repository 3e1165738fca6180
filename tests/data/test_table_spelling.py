"""Tables as people have them: headers, encodings, spelled names of files."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.layouts import ROWS, draw, loaded, refused, write_table

from ensemble.core.errors import DataError
from ensemble.data.detect_form import guess_spec
from ensemble.data.inputs import named_images
from ensemble.data.load import load_dataset
from ensemble.recipe.data_spec import DataSpec

pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.parametrize("first", ["0.png,a", "0,a", "images/0.png,a"])
def test_table_without_a_header_is_refused(numbered_images: Path, first: str) -> None:
    path = write_table("list.csv", first, *ROWS[1:])
    assert "add a header line, such as id,label" in refused(path)
    assert "add a header line" in refused(DataSpec(form="csv", path="d", train="list.csv", images="images"))
    if "/" not in first:
        with pytest.raises(DataError, match="add a header line"):
            named_images(["d/list.csv"], folder=Path("d/images"))


def test_class_in_the_header_is_refused(numbered_images: Path) -> None:
    assert "'cat', which" in refused(write_table("list.csv", "x.png,cat", "0.png,cat", "1.png,dog", "2.png,dog"))
    one_hot = [f"{i},{1 - i % 2},{i % 2}" for i in range(8)]
    assert loaded(write_table("list.csv", "id,0,1", *one_hot))[0] == ["0", "1"]


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
def test_table_encodings_and_marks(numbered_images: Path, lines: list[str], encoding: str) -> None:
    assert loaded(write_table("list.csv", *lines, encoding=encoding))[:2] == (["a", "b"], {"train": 6, "valid": 2})


def test_ragged_table_is_refused(numbered_images: Path) -> None:
    message = refused(write_table("list.csv", "id,label", *ROWS[:4], "4,a,b", *ROWS[5:]))
    assert "line 6: 3 values found, 2 expected" in message


def test_table_in_another_encoding_is_refused(numbered_images: Path) -> None:
    assert "UTF-8" in refused(write_table("list.csv", "id,label", "0,é", "1,a", encoding="latin-1"))


@pytest.mark.parametrize(
    ("spelled", "note"),
    [
        ("{i}.PNG", "another case"),
        ("../input/comp/images/{i}.png", "leading folders"),
        ("C:\\data\\images\\{i}.png", "leading folders"),
        ("{root}/d/images/{i}.png", ""),
    ],
)
def test_file_names_as_tables_spell_them(numbered_images: Path, here: Path, spelled: str, note: str) -> None:
    rows = [f"{spelled.format(i=i, root=here.as_posix())},{'ab'[i % 2]}" for i in range(8)]
    _, sizes, notes = loaded(write_table("list.csv", "file,label", *rows))
    assert sizes == {"train": 6, "valid": 2}
    assert notes[-1] == "list.csv: ids from 'file', labels from 'label'"
    assert [note in line for line in notes[:-1]] == ([True] if note else [])


@pytest.mark.parametrize(
    ("spelled", "advice"), [("{}.jpg", "0.png is there"), ("{}.0", "decimal numbers"), ("x{}", "column of the ids")]
)
def test_missing_file_names_get_advice(numbered_images: Path, spelled: str, advice: str) -> None:
    rows = [f"{spelled.format(i)},{'ab'[i % 2]}" for i in range(8)]
    assert advice in refused(write_table("list.csv", "file,label", *rows))


def test_missing_image_is_not_taken_from_another_folder() -> None:
    root = draw(*[f"train/{i}.png" for i in range(8)], *[f"test/{i}.png" for i in range(8)])
    rows = [f"train/{i}.png,{'ab'[i % 2]}" for i in range(8)]
    write_table("train.csv", "file,label", *rows)
    assert loaded(root)[1]["train"] == 6
    (root / "train" / "3.png").unlink()
    assert "'train/3.png'" in refused(root)


def test_equal_names_in_train_and_test_differ_by_folder() -> None:
    root = draw(*[f"train_images/{i}.png" for i in range(8)], *[f"test_images/{i}.png" for i in range(4)])
    write_table("train.csv", "id,label", *ROWS)
    write_table("test.csv", "id", "0.png", "1.png")
    data = load_dataset(guess_spec(root), Path("runs"))
    assert all(path.startswith("train_images/") for path in data.splits["train"].paths)
    assert data.splits["test"].paths.tolist() == ["test_images/0.png", "test_images/1.png"]


def test_images_in_no_table_are_counted(numbered_images: Path) -> None:
    notes = loaded(write_table("list.csv", "id,label", *ROWS[:6]))[2]
    assert len(notes) == 2 and "2 images are in no table" in notes[0] and "'6.png', '7.png'" in notes[0]
