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


STAGES = (Stage(epochs=1),)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"stages": STAGES, "lr": 0.1}, "`stages` say the epochs and rates"),
        ({"epochs": 0, "frozen_epochs": 0}, "at least one epoch expected"),
        ({"progressive": 4000}, "progressive: 4000 found, less than image_size (16) expected"),
        ({"cache_features": True, "frozen_epochs": 0}, "cache_features is for a head that trains alone"),
        ({"cache_features": True, "frozen_epochs": 1, "augment": "flip"}, "needs the same images in every epoch"),
        ({"head": "linear"}, "customnet has a head of its own"),
        ({"arch": "resnet18", "head": "dense", "head_fit": "regression"}, "regression fits a linear head"),
        (
            {
                "arch": "resnet18",
                "head": "linear",
                "head_fit": "regression",
                "cache_features": True,
                "frozen_epochs": 1,
            },
            "regression computes features once anyway",
        ),
        ({"stages": STAGES, "unfreeze": 2}, "`stages` say what trains"),
        ({"full": True, "folds": 3}, "`full` and `folds` exclude each other"),
        ({"fold": 3, "folds": 3}, "fold 3 found, a fold below `folds` (3) expected"),
    ],
)
def test_every_contradiction_of_the_table_is_named(keys: dict[str, Any], message: str) -> None:
    problems = list(contradictions(small_recipe(**keys)))
    assert len(problems) == 1 and message in problems[0]


def test_the_cases_above_are_the_whole_table() -> None:
    assert len(CONTRADICTIONS) == 11
    assert not list(contradictions(small_recipe()))
