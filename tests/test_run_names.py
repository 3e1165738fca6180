"""What people type for a run: its id, the beginning of it, or its directory as a shell completes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import fake_runs

from ensemble.core.errors import DataError, RecipeError
from ensemble.data.inputs import named_images
from ensemble.runs.origin import named_run
from ensemble.runs.writing import run_id


def test_a_run_by_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "runs"
    run = fake_runs.member(folder, "net-00000001", 1)
    monkeypatch.chdir(tmp_path)
    for word in (
        "net-00000001",
        "net-0",
        "net-00000001/",
        "runs/net-00000001",
        "runs/net-00000001/",
        str(run.path),
    ):
        assert named_run(Path("runs"), word).id == run.id
    fake_runs.member(tmp_path / "others", "other-00000001", 1)
    with pytest.raises(DataError, match='0 runs in runs are called "others/other-00000001"'):
        named_run(Path("runs"), "others/other-00000001")


def test_an_address_is_no_image() -> None:
    with pytest.raises(DataError, match="is an address, and nothing is downloaded"):
        named_images(["https://example.org/a.png"])


def test_folders_that_are_there_are_no_part_of_a_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photos [1]/a.png", "photos [1]/b.png", "photos [1]/c.txt", "more/1.png", "more/2.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    for word in ("photos [1]/*.png", "./photos [1]/[ab].png", str(tmp_path / "photos [1]" / "*.png")):
        assert [Path(image.name).name for image in named_images([word])] == ["a.png", "b.png"]
    assert [image.name for image in named_images(["more/[12].png"])] == ["more/1.png", "more/2.png"]
    assert len(named_images(["**/*.png"])) == 4


@pytest.mark.parametrize("length", [201, 240, 300])
def test_a_name_that_no_file_system_takes_is_refused_before_the_work(length: int) -> None:
    with pytest.raises(RecipeError, match=f"a name of {length} bytes found, at most 200 expected"):
        run_id("n" * length, "0" * 64)
    assert run_id("n" * 200, "0" * 64).startswith("nnn")


def test_a_table_has_an_answer_for_each_of_its_rows(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(b"")
    table = tmp_path / "list.csv"
    table.write_text("image\nb.png\na.png\nb.png\nc.png\n")
    assert [image.name for image in named_images([str(table)])] == ["b.png", "a.png", "b.png", "c.png"]
    words = [str(tmp_path / "c.png"), str(table), str(tmp_path / "a.png")]
    assert [image.path.name for image in named_images(words)] == ["c.png", "b.png", "a.png", "b.png"]
