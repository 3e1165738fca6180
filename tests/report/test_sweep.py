"""The table of a sweep."""

from __future__ import annotations

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble.core.errors import EnsError
from ensemble.recipe.trials import Trial
from ensemble.report.sweep import ScoredCell, SweepTable, TrialTable

SCORES = st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=3), min_size=6, max_size=6)


@given(SCORES, st.booleans())
def test_sweep_table_shows_every_cell_and_the_best_in_bold(scores: list[list[float]], higher: bool) -> None:
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


def test_cell_without_a_run_is_empty_and_one_axis_is_a_column() -> None:
    axes = {"augment": ("none", "flip"), "epochs": ("1", "2")}
    cell = ScoredCell(("none", "2"), (0.5,), ("r",))
    table = SweepTable("accuracy", True, axes, {cell.place: cell}, 10, 0)
    assert table.markdown().splitlines()[2].replace(" ", "") == "|none||**0.5000**|"
    item = SweepTable("kappa", True, {"lr": ("0.1",)}, {("0.1",): ScoredCell(("0.1",), (0.25,), ("r",))}, 10, 0)
    assert item.csv() == "lr,kappa\n0.1,0.25\n"
    assert table.picture().startswith(b"\x89PNG") and item.picture().startswith(b"\x89PNG")


def test_sweep_table_of_failures_says_so() -> None:
    with pytest.raises(EnsError, match="none of the 1 trials"):
        TrialTable("accuracy", True, ("lr",), (Trial({"lr": 1.0}, None),)).best  # noqa: B018
