"""Sweeps: the grid of a recipe, labels of cells, and the guided search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensemble.core.errors import EnsError, RecipeError
from ensemble.recipe.file import RecipeFile, build
from ensemble.recipe.trials import grid_of, label, search
from ensemble.report.sweep import TrialTable


def read(raw: dict[str, Any]) -> Any:
    def with_keys(keys: Mapping[str, Any]) -> RecipeFile:
        return build(raw, source="test", overrides=keys)

    return with_keys


def test_grid_has_a_cell_per_combination_and_a_member_per_seed() -> None:
    grid = grid_of(
        {"augment": ["none", "flip-hv"], "epochs": [2, 4, 6]}, read({"members": [{"arch": "a", "seeds": [0, 1]}]})
    )
    assert grid.axes == {"augment": ("none", "flip-hv"), "epochs": ("2", "4", "6")}
    assert [cell.place for cell in grid.cells] == [(a, e) for a in ("none", "flip-hv") for e in ("2", "4", "6")]
    for cell in grid.cells:
        assert {(m.augment, str(m.epochs)) for m in cell.members} == {cell.place}
        assert [m.seed for m in cell.members] == [0, 1]


def test_several_members_are_an_axis_of_the_grid() -> None:
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
def test_cell_labels_read_as_values(value: Any, shown: str) -> None:
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
def test_wrong_sweep_is_named(sweep: dict[str, Any], problem: str) -> None:
    with pytest.raises(RecipeError) as error:
        build({"members": ["a"], "sweep": sweep}, source="test")
    assert problem in str(error.value)


def valley(values: Mapping[str, float]) -> float:
    return -abs(np.log10(values["lr"]) + 2) - abs(values["dropout"] - 0.3)


SPACE: dict[str, Any] = {"lr": (1e-4, 1.0, "log"), "dropout": (0.0, 0.7)}


def test_resumed_search_tries_the_same_values(tmp_path: Path) -> None:
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


def test_failed_trial_counts_without_a_score(tmp_path: Path) -> None:
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


def test_search_values_are_short_and_integer_for_integer_keys(tmp_path: Path) -> None:
    result = search(
        {"epochs": (1.0, 9.0)}, 5, tmp_path / "journal.log", lambda values: values["epochs"], higher=False
    )
    assert all(isinstance(trial.values["epochs"], int) for trial in result)
    lrs = search({"lr": (1e-3, 1.0, "log")}, 3, tmp_path / "other.log", lambda values: 0.0, higher=True)
    assert all(trial.values["lr"] == float(f"{trial.values['lr']:.3g}") for trial in lrs)
    with pytest.raises(RecipeError, match="below the high one"):
        search({"lr": (1.0, 0.1)}, 3, tmp_path / "x.log", lambda values: 0.0, higher=True)
