"""`ens sweep` on tiny images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ensemble.cli import run as ens


@pytest.fixture
def recipe(photos: Path, here: Path) -> Path:
    """A recipe with a sweep, in the working folder."""
    (here / "r.yaml").write_text(
        "data: {form: folders, path: photos}\n"
        "defaults: {image_size: 8, batch_size: 8, lr: 0.01, epochs: 1, filters: [4, 8], weights: none}\n"
        "members: [customnet]\n"
        "sweep: {grid: {augment: [none, flip-hv], dropout: [0.1, 0.5]}}\n"
    )
    return here / "r.yaml"


@pytest.mark.slow
def test_sweep_trains_missing_cells_and_saves_its_table(recipe: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ens(["sweep", "r.yaml", "--dry-run"]) == 0
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 4 and "4 cells, 4 members" in err
    assert not Path("runs/sweeps").exists()
    assert ens(["sweep", "r.yaml"]) == 0
    out, err = capfd.readouterr()
    assert out.splitlines()[0].replace(" ", "") == "|augment\\dropout|0.1|0.5|"
    assert "Best accuracy on 12 validation rows" in out
    (folder,) = Path("runs/sweeps").iterdir()
    assert {path.name for path in folder.iterdir()} == {
        "table.md",
        "table.csv",
        "runs.csv",
        "table.png",
        "sweep.json",
    }
    assert (folder / "table.md").read_text() == out
    before = {path.parent.name: path.read_bytes() for path in Path("runs").glob("*/weights.safetensors")}
    best = err.split("best: ")[1].splitlines()[0]
    facts = json.loads((Path("runs") / best / "run.json").read_text())
    assert facts["chosen_on_valid"] == ["best of 4 cells"]
    # a larger one trains only what is new
    assert ens(["sweep", "r.yaml", "--grid", "augment=none,flip-hv,brightness", "--grid", "dropout=0.1,0.5"]) == 0
    out, err = capfd.readouterr()
    assert err.count("is complete") == 4
    after = {path.parent.name: path.read_bytes() for path in Path("runs").glob("*/weights.safetensors")}
    assert len(after) == 6 and before.items() <= after.items()
    # seeds give means and deviations
    assert ens(["sweep", "r.yaml", "--seed", "0", "--seed", "1", "--metric", "log_loss"]) == 0
    out, _ = capfd.readouterr()
    assert out.count(" ± ") == 5  # four cells and the sentence
    assert ens(["run", "r.yaml"]) == 2
    assert "type `ens sweep r.yaml`" in capfd.readouterr().err


@pytest.mark.slow
def test_sweep_of_several_members_is_a_table(recipe: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = Path("r.yaml").read_text().split("members:")[0]
    members = "members: [{arch: customnet}, {arch: customnet, name: weighted, sampler: weighted}]\n"
    Path("m.yaml").write_text(text.replace("epochs: 1", "epochs: 1, seeds: [0, 1]") + members)
    assert ens(["sweep", "m.yaml"]) == 0
    out, err = capfd.readouterr()
    lines = out.splitlines()
    assert lines[0].replace(" ", "") == "|member|accuracy|" and "2 cells, 4 members" in err
    assert [line.split("|")[1].strip() for line in lines[2:4]] == ["customnet", "weighted"]
    Path("one.yaml").write_text(text + "members: [customnet]\n")
    assert ens(["sweep", "one.yaml"]) == 2
    assert "or several members" in capfd.readouterr().err


@pytest.mark.slow
def test_guided_search_by_the_command(recipe: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", "r.yaml", "--search", "lr=0.001:0.1:log", "--search", "batch_size=4:16", "--trials", "3"]
    assert ens(words) == 0
    out, err = capfd.readouterr()
    assert (
        "Best accuracy of 3 trials" in out
        and [f"trial {n} of at most 3: lr" in err for n in (1, 2, 3)] == [True] * 3
    )
    assert len(list(Path("runs").glob("customnet-*"))) == 3
    assert ens(words) == 0
    again, err = capfd.readouterr()
    assert again == out and "trying" not in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--grid", "augment"], "--grid 'augment' found, key=value expected"),
        (["--grid", "augmnt=none"], "unknown key; did you mean 'augment'?"),
        (["--grid", "augment=none,flpi"], "unknown augmentation policy 'flpi'"),
        (["--grid", "augment=none", "--search", "lr=1:2"], "or --search KEY=LOW:HIGH expected"),
        (["--search", "lr=1"], "--search 'lr=1' found"),
        (["--search", "lr=2:1"], "below the high one"),
        (["--metric", "acuracy"], "acuracy"),
    ],
)
def test_sweep_errors_are_named_before_training(
    recipe: Path, capfd: pytest.CaptureFixture[str], words: list[str], problem: str
) -> None:
    assert ens(["sweep", "r.yaml", *words]) == 2
    assert problem in capfd.readouterr().err
    assert not list(Path("runs").glob("customnet-*"))
