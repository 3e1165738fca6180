"""Files, folders, patterns and tables that name images to predict."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.network_runs import picture

from ensemble.core.errors import DataError
from ensemble.data.inputs import named_images


def test_files_folders_patterns_and_tables_name_images(here: Path) -> None:
    for name in ("a/10.png", "a/2.jpg", "a/b/1.png", "c/[x].png", "c/y.png"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        picture(0).save(here / name)
    (here / "a" / "notes.txt").write_text("no image")
    (here / "a" / "list.csv").write_text("id,weight\n2,5\nb/1.png,6\ngone,7\n")

    def names(*words: str, **options: object) -> list[str]:
        return [item.name for item in named_images(words, **options)]  # type: ignore[arg-type]

    assert names("a") == ["a/2.jpg", "a/10.png", "a/b/1.png"]
    assert names("c/[x].png", "c/*.png") == ["c/[x].png", "c/y.png"]
    assert names("**/1*.png") == ["a/10.png", "a/b/1.png"]
    listed = named_images(["a/list.csv"])
    assert [(item.name, item.path.as_posix()) for item in listed] == [
        ("2", "a/2.jpg"),
        ("b/1.png", "a/b/1.png"),
        ("gone", "a/gone"),
    ]
    assert names("a/2.jpg", "a") == ["a/2.jpg", "a/10.png", "a/b/1.png"]
    for words, options, message in (
        (["d*"], {}, "matches no file"),
        (["a/list.csv"], {"column": "weigth"}, "did you mean 'weight'"),
        (["a/list.csv"], {"folder": Path("d")}, "no folder d"),
    ):
        with pytest.raises(DataError, match=message):
            names(*words, **options)
    with pytest.raises(DataError, match="an empty name found"):
        names("")
    (here / "empty").mkdir()
    with pytest.raises(DataError, match="no images in empty"):
        names("empty")
    (here / "odd.csv").write_text("what,weight\n2,5\n")
    with pytest.raises(DataError, match="--column"):
        names("odd.csv")
    assert names("odd.csv", column="what", folder=here / "a") == ["2"]


def test_url_is_not_an_image() -> None:
    with pytest.raises(DataError, match="is an address, and nothing is downloaded"):
        named_images(["https://example.org/a.png"])


def test_existing_folders_are_not_part_of_a_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photos [1]/a.png", "photos [1]/b.png", "photos [1]/c.txt", "more/1.png", "more/2.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    for word in ("photos [1]/*.png", "./photos [1]/[ab].png", str(tmp_path / "photos [1]" / "*.png")):
        assert [Path(image.name).name for image in named_images([word])] == ["a.png", "b.png"]
    assert [image.name for image in named_images(["more/[12].png"])] == ["more/1.png", "more/2.png"]
    assert len(named_images(["**/*.png"])) == 4


def test_table_has_a_prediction_per_row(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(b"")
    table = tmp_path / "list.csv"
    table.write_text("image\nb.png\na.png\nb.png\nc.png\n")
    assert [image.name for image in named_images([str(table)])] == ["b.png", "a.png", "b.png", "c.png"]
    words = [str(tmp_path / "c.png"), str(table), str(tmp_path / "a.png")]
    assert [image.path.name for image in named_images(words)] == ["c.png", "b.png", "a.png", "b.png"]
