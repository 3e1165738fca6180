"""Keys that exclude each other, and what a training chooses by the validation rows because of its keys."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.recipes import small_recipe

from ensemble.recipe.contradictions import CONTRADICTIONS, choices_of_keys, contradictions
from ensemble.recipe.schema import Stage


@pytest.mark.parametrize(
    ("keys", "choice"), [({"early_stopping": 2}, "early stopping"), ({"keep": "best"}, "best epoch")]
)
def test_choices_on_valid_are_refused_for_a_refit(keys: dict[str, Any], choice: str) -> None:
    assert choices_of_keys(small_recipe(**keys)) == [choice]
    refit = contradictions(small_recipe(full=True, **keys))
    assert any("a refit has no validation rows" in problem for problem in refit)
    assert any("leave valid_every" in problem for problem in contradictions(small_recipe(valid_every=2, **keys)))
    assert choices_of_keys(small_recipe()) == []


@pytest.mark.parametrize(
    "keys",
    [
        {"stages": (Stage(epochs=1),), "lr": 0.1},
        {"epochs": 0, "frozen_epochs": 0},
        {"progressive": 4000},
        {"cache_features": True, "frozen_epochs": 0, "augment": "none"},
        {"cache_features": True, "frozen_epochs": 1, "augment": "flip"},
        {"arch": "customnet", "head": "linear"},
        {"head": "dense", "head_fit": "regression"},
        {"head": "linear", "head_fit": "regression", "cache_features": True, "frozen_epochs": 1, "augment": "none"},
        {"stages": (Stage(epochs=1),), "epochs": None, "lr": "auto", "unfreeze": 2},
        {"full": True, "folds": 3},
        {"fold": 3, "folds": 3},
    ],
)
def test_every_contradiction_of_the_table_is_found(keys: dict[str, Any]) -> None:
    assert list(contradictions(small_recipe(**keys)))


def test_messages_are_formatted() -> None:
    (message,) = contradictions(small_recipe(progressive=4000))
    assert "{" not in message and "4000" in message
    assert len(CONTRADICTIONS) == 11
