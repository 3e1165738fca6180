"""Laws of sweeps: the grid and its table, what is trained once, the guided search and its journal."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ensemble.cli import run as ens
from ensemble.core.errors import EnsError, RecipeError
from ensemble.core.table import as_csv, markdown
from ensemble.recipe.file import RecipeFile, build
from ensemble.recipe.trials import Trial, grid_of, label, search
from ensemble.report.sweep import ScoredCell, SweepTable, TrialTable


def read(raw: dict[str, Any]) -> Any:
    def with_keys(keys: Mapping[str, Any]) -> RecipeFile:
        return build(raw, source="test", overrides=keys)

    return with_keys


def test_a_grid_has_a_cell_for_every_combination_and_a_member_for_every_seed() -> None:
    grid = grid_of(
        {"augment": ["none", "flip-hv"], "epochs": [2, 4, 6]}, read({"members": [{"arch": "a", "seeds": [0, 1]}]})
    )
    assert grid.axes == {"augment": ("none", "flip-hv"), "epochs": ("2", "4", "6")}
    assert [cell.place for cell in grid.cells] == [(a, e) for a in ("none", "flip-hv") for e in ("2", "4", "6")]
    for cell in grid.cells:
        assert {(m.augment, str(m.epochs)) for m in cell.members} == {cell.place}
        assert [m.seed for m in cell.members] == [0, 1]


def test_the_recipes_own_members_are_an_axis_where_there_are_several() -> None:
    grid = grid_of({"epochs": [1, 2]}, read({"members": [{"arch": "a"}, {"arch": "b"}]}))
    assert list(grid.axes) == ["member", "epochs"]
    assert [cell.place for cell in grid.cells] == [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")]
    swept = grid_of({"arch": ["a", "b"]}, read({"members": [{"arch": "x"}]}))
    assert swept.axes == {"arch": ("a", "b")}
    assert [cell.members[0].arch for cell in swept.cells] == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.001, "0.001"), (2, "2"), (None, "default"), (True, "yes"), (["a", "b"], "a+b"), ([], "none")],
)
def test_labels_read_as_values(value: Any, shown: str) -> None:
    assert label(value) == shown


@pytest.mark.parametrize(
    ("sweep", "problem"),
    [
        ({"grid": {"augmnt": ["none"]}}, "sweep.grid.augmnt: unknown key; did you mean 'augment'?"),
        ({"grid": {"seed": [0, 1]}}, "seeds repeat every cell"),
        ({"grid": {"augment": []}}, "sweep.grid.augment"),
        ({"search": {"lr": [0.1]}}, "sweep.search.lr"),
        ({"search": {"lr": [0.1, 1.0, "exp"]}}, "sweep.search.lr"),
        ({"trials": 0}, "sweep.trials"),
    ],
)
def test_what_is_wrong_with_a_sweep_is_named(sweep: dict[str, Any], problem: str) -> None:
    with pytest.raises(RecipeError) as error:
        build({"members": ["a"], "sweep": sweep}, source="test")
    assert problem in str(error.value)


SCORES = st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=3), min_size=6, max_size=6)


@given(SCORES, st.booleans())
@settings(deadline=None)
def test_the_table_shows_every_cell_and_the_best_in_bold(scores: list[list[float]], higher: bool) -> None:
    axes = {"augment": ("none", "flip"), "epochs": ("1", "2", "3")}
    places = [(a, e) for a in axes["augment"] for e in axes["epochs"]]
    cells = {
        place: ScoredCell(place, tuple(mine), tuple(f"r{i}" for i in range(len(mine))))
        for place, mine in zip(places, scores, strict=True)
    }
    table = SweepTable("accuracy", higher, axes, cells, 100, 3)
    means = [cell.mean for cell in cells.values()]
    assert table.best.mean == (max(means) if higher else min(means))
    lines = table.markdown().splitlines()
    assert [part.strip() for part in lines[0].strip("|").split("|")] == ["augment \\ epochs", "1", "2", "3"]
    shown = [part.strip() for line in lines[2:4] for part in line.strip("|").split("|")[1:]]
    assert [part.strip("*") for part in shown] == [cells[place].text for place in places]
    assert [part for part in shown if part.startswith("**")] == [f"**{table.best.text}**"]
    read_back = list(csv.reader(table.csv().splitlines()))
    assert [[float(value) for value in row[1:]] for row in read_back[1:]] == [means[:3], means[3:]]
    assert len(table.runs_csv().splitlines()) == 1 + sum(map(len, scores))


def test_a_cell_without_a_run_is_empty_and_one_axis_is_a_column() -> None:
    axes = {"augment": ("none", "flip"), "epochs": ("1", "2")}
    cell = ScoredCell(("none", "2"), (0.5,), ("r",))
    table = SweepTable("accuracy", True, axes, {cell.place: cell}, 10, 0)
    assert table.markdown().splitlines()[2].replace(" ", "") == "|none||**0.5000**|"
    one = SweepTable("kappa", True, {"lr": ("0.1",)}, {("0.1",): ScoredCell(("0.1",), (0.25,), ("r",))}, 10, 0)
    assert one.csv() == "lr,kappa\n0.1,0.25\n"
    assert table.picture().startswith(b"\x89PNG") and one.picture().startswith(b"\x89PNG")


def test_tables_escape_what_would_break_them() -> None:
    assert "a\\|b" in markdown(["x"], [["a|b"]])
    assert as_csv(["x", "y"], [["a,b", None]]) == 'x,y\n"a,b",\n'


# ---- the guided search ----


def valley(values: Mapping[str, float]) -> float:
    return -abs(np.log10(values["lr"]) + 2) - abs(values["dropout"] - 0.3)


SPACE: dict[str, Any] = {"lr": (1e-4, 1.0, "log"), "dropout": (0.0, 0.7)}


def test_a_search_that_is_stopped_and_resumed_tries_the_same_values(tmp_path: Path) -> None:
    whole = search(SPACE, 14, tmp_path / "whole" / "journal.log", valley, higher=True)
    seen: list[dict[str, float]] = []
    for stop in (3, 7, 8, 99):

        def until(values: Mapping[str, float], stop: int = stop) -> float:
            seen.append(dict(values))
            if len(seen) == stop:
                raise KeyboardInterrupt
            return valley(values)

        try:
            parts = search(SPACE, 14, tmp_path / "parts" / "journal.log", until, higher=True)
        except KeyboardInterrupt:
            continue
    assert [trial.values for trial in parts] == [trial.values for trial in whole]
    assert len(whole) == 14
    assert max(trial.score for trial in whole[8:] if trial.score is not None) > -1.0
    again = search(SPACE, 14, tmp_path / "whole" / "journal.log", lambda values: 1 / 0, higher=True)
    assert again == whole


def test_a_trial_that_fails_counts_and_has_no_score(tmp_path: Path) -> None:
    def fails(values: Mapping[str, float]) -> float:
        if values["lr"] > 0.01:
            raise EnsError("the loss became nan")
        return valley(values)

    result = search(SPACE, 10, tmp_path / "journal.log", fails, higher=True)
    assert len(result) == 10
    assert {trial.score is None for trial in result} == {True, False}
    assert all((trial.score is None) == (trial.values["lr"] > 0.01) for trial in result)
    table = TrialTable("accuracy", True, ("lr", "dropout"), tuple(result))
    assert table.best.score == max(trial.score for trial in result if trial.score is not None)
    assert "trials failed" in table.markdown()
    assert len(table.csv().splitlines()) == 11
    assert table.picture().startswith(b"\x89PNG")


def test_values_are_short_and_whole_where_the_key_is(tmp_path: Path) -> None:
    result = search(
        {"epochs": (1.0, 9.0)}, 5, tmp_path / "journal.log", lambda values: values["epochs"], higher=False
    )
    assert all(isinstance(trial.values["epochs"], int) for trial in result)
    lrs = search({"lr": (1e-3, 1.0, "log")}, 3, tmp_path / "other.log", lambda values: 0.0, higher=True)
    assert all(trial.values["lr"] == float(f"{trial.values['lr']:.3g}") for trial in lrs)
    with pytest.raises(RecipeError, match="below the high one"):
        search({"lr": (1.0, 0.1)}, 3, tmp_path / "x.log", lambda values: 0.0, higher=True)


def test_a_table_of_failures_says_so() -> None:
    with pytest.raises(EnsError, match="none of the 1 trials"):
        TrialTable("accuracy", True, ("lr",), (Trial({"lr": 1.0}, None),)).best  # noqa: B018


# ---- whole commands ----


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ENS_RUNS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for split, each in (("train", 16), ("valid", 6)):
        for name, channel in (("red", 0), ("blue", 2)):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for index in range(each):
                pixels = random.integers(0, 120, (8, 8, 3), dtype=np.uint8)
                pixels[..., channel] += 100
                Image.fromarray(pixels).save(folder / f"{index}.png")
    (tmp_path / "r.yaml").write_text(
        "data: {form: folders, path: photos}\n"
        "defaults: {image_size: 8, batch_size: 8, lr: 0.01, epochs: 1, filters: [4, 8], weights: none}\n"
        "members: [customnet]\n"
        "sweep: {grid: {augment: [none, flip-hv], dropout: [0.1, 0.5]}}\n"
    )
    return tmp_path


@pytest.mark.slow
def test_a_sweep_trains_what_is_missing_and_saves_its_table(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
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
def test_a_recipe_of_several_members_is_a_table_of_them(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
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
def test_a_guided_search_by_the_command(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
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
def test_mistakes_are_named_before_anything_is_trained(
    here: Path, capfd: pytest.CaptureFixture[str], words: list[str], problem: str
) -> None:
    assert ens(["sweep", "r.yaml", *words]) == 2
    assert problem in capfd.readouterr().err
    assert not list(Path("runs").glob("customnet-*"))
