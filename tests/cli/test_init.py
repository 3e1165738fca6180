"""`ens init`: a recipe with a reason for each column, which loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.layouts import classes, draw, refused, write_table
from helpers.photos import noise_folders

from ensemble.cli import run as ens
from ensemble.recipe.file import read_recipe_file


def test_init_does_not_write_over_a_recipe(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    noise_folders(here / "photos" / "train")
    assert ens(["init", "photos"]) == 0
    first = (here / "ens.yaml").read_bytes()
    (here / "ens.yaml").write_bytes(first + b"# mine\n")
    assert ens(["init", "photos"]) == 2
    assert "--force" in capfd.readouterr().err
    assert (here / "ens.yaml").read_bytes() == first + b"# mine\n"


@pytest.mark.parametrize(("each", "batch"), [(4, 2), (12, 4), (24, 8)])
def test_init_writes_a_batch_that_the_images_fill(here: Path, each: int, batch: int) -> None:
    from ensemble.recipe.file import read_recipe_file

    for name in ("ant", "bee"):
        (here / "photos" / "train" / name).mkdir(parents=True)
        for index in range(each):
            (here / "photos" / "train" / name / f"{index}.png").touch()  # no image is opened
    assert ens(["init", "photos"]) == 0
    assert read_recipe_file(here / "ens.yaml").members[0].batch_size == batch
    assert "so that an epoch of" in (here / "ens.yaml").read_text()


def test_init_writes_a_valid_recipe(here: Path) -> None:
    from ensemble.recipe.file import read_recipe_file

    noise_folders(here / "my photos" / "train")
    assert ens(["init", "my photos"]) == 0
    result = read_recipe_file(here / "ens.yaml")
    assert result.data.path == "my photos"
    assert [member.arch for member in result.members] == ["resnet34", "densenet121"] + ["efficientnet_b0"] * 2


def init(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str, str]:
    """The recipe, stdout, stderr."""
    assert ens(["init", str(path), "--force"]) == 0
    out, err = capsys.readouterr()
    return Path("ens.yaml").read_text(), out, err


@pytest.mark.usefixtures("here")
def test_init_gives_each_column_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    draw(*[f"train/{i}.png" for i in range(16)], *[f"test/t{i}.png" for i in range(3)])
    header = "patient_id,image,diagnosis,age,fold"
    path = write_table("train.csv", header, *[f"p{i // 2},{i},{'ab'[i // 2 % 2]},{i},{i % 5}" for i in range(16)])
    write_table("test.csv", "image", "t0", "t1", "t2")
    write_table("sample_submission.csv", "image,diagnosis", "t0,a", "t1,a", "t2,a")
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


@pytest.mark.usefixtures("here")
def test_init_asks_where_it_cannot_tell(numbered_images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{i}.png,{i % 3},{'mf'[i % 2]},{'xy'[i // 4]},{'ab'[i % 2]},{i % 3},red" for i in range(8)]
    path = write_table("list.csv", "id,age,sex,place,kind,grade,colour", *rows)
    text, out, _ = init(path, capsys)
    assert "# QUESTION: which column is the label?" in text and "kind: 2 different values such as a, b" in text
    assert "data.label_column" in out
    assert ens(["check"]) == 3
    assert "set data.label_column" in capsys.readouterr().err
    Path("ens.yaml").write_text(text.replace("# label_column: ...", "label_column: kind"))
    assert ens(["check"]) == 0


@pytest.mark.usefixtures("here")
def test_init_of_a_table_without_labels(numbered_images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_table("list.csv", "file", *[f"{i}.png" for i in range(8)])
    assert "no column is left for the label" in refused(path)
    assert "which column is the label? none is left" in init(path, capsys)[0]


@pytest.mark.usefixtures("here")
def test_init_asks_what_rows_of_zeros_mean(numbered_images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_table(
        "list.csv", "id,melanoma,keratosis", *[f"{i},{int(i % 3 == 0)},{int(i % 3 == 1)}" for i in range(8)]
    )
    text, _, _ = init(path, capsys)
    Path("ens.yaml").write_text(text.replace("# unnamed_class: ...", "unnamed_class: nevus"))
    assert ens(["check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == ["melanoma", "keratosis", "nevus"]


@pytest.mark.usefixtures("here")
def test_init_of_a_split_column_and_of_class_folders(
    numbered_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{i},{'train' if i % 4 else 'test'},{'ab'[i // 4]}" for i in range(8)]
    text, _, err = init(write_table("list.csv", "id,phase,label", *rows), capsys)
    assert "split_column: phase" in text and "split_column: phase" in err
    assert ens(["check"]) == 0
    text, _, err = init(classes("seg_train/seg_train", "seg_test/seg_test", root="e"), capsys)
    assert "train: seg_train/seg_train" in text and "test: seg_test/seg_test" in err
    assert ens(["check"]) == 0


@pytest.mark.parametrize(("names", "read"), [(["ens.yml"], "ens.yml"), (["ens.yml", "ens.yaml"], "ens.yaml")])
def test_recipe_may_end_in_yml(here: Path, capfd: pytest.CaptureFixture[str], names: list[str], read: str) -> None:
    for name in names:
        member = f"{{arch: customnet, image_size: 8, filters: [4, 8], name: from-{name[-4:].strip('.')}}}"
        (here / name).write_text(f"members: [{member}]\n")
    assert ens(["train", "--dry-run"]) == 0
    assert f"from-{read[-4:].strip('.')}" in "".join(capfd.readouterr())


def test_init_writes_no_recipe_beside_another(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "ens.yml").write_text("members: [customnet]\n")
    assert ens(["init", "."]) == 2
    assert "ens.yml is there already; type --force to write ens.yaml" in capfd.readouterr().err
