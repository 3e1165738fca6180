"""What the registered methods declare is checked against a recipe."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.recipes import small_recipe

from ensemble.recipe.methods import METHODS, chosen_on_valid, problems, registry

pytestmark = pytest.mark.slow  # the methods of training import torch and fastai


@pytest.mark.parametrize(
    ("keys", "choices"),
    [
        ({"schedule": "plateau", "lr": 0.1}, ["rates"]),
        ({"average": "soup"}, ["soup"]),
        ({"early_stopping": 2, "schedule": "plateau", "average": "soup"}, ["early stopping", "rates", "soup"]),
    ],
)
def test_choices_on_valid_are_refused_for_a_refit(keys: dict[str, Any], choices: list[str]) -> None:
    assert chosen_on_valid(small_recipe(**keys)) == choices
    assert any("a refit has no validation rows" in problem for problem in problems(small_recipe(full=True, **keys)))
    assert any("leave valid_every" in problem for problem in problems(small_recipe(valid_every=2, **keys)))
    assert chosen_on_valid(small_recipe()) == []


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"sampler_count": 5}, "sampler_count is for sampler: oversample, none found; leave it out"),
        ({"prune": 0.5}, "prune is for sampler: pruned, none found; leave it out"),
        ({"focal_gamma": 1.0}, "focal_gamma is for loss: focal, cross-entropy found; leave it out"),
        ({"mix_alpha": 1.0}, "mix_alpha is for mixing: mixup or cutmix, none found; leave it out"),
        ({"patience": 5}, "patience is for schedule: plateau, one-cycle found; leave it out"),
        ({"bias_lr": 2.0}, "bias_lr is for optimizer: sgd or muon, adam found; leave it out"),
        ({"average_epochs": 2}, "average_epochs is for average: swa or soup, none found; leave it out"),
        ({"momentum": 0.9}, "schedule: one-cycle sets the momentum itself; leave momentum out or take another"),
        (
            {"keep": "best", "average": "ema"},
            "keep: best keeps the weights of one epoch, average: ema those of many; leave one out",
        ),
        ({"augment": "flip+flop"}, "unknown augmentation policy 'flop'; did you mean 'flip'?"),
        ({"preprocess": ("gray",)}, "unknown preprocessing filter 'gray'; did you mean 'grey'?"),
    ],
)
def test_problems_are_named_with_what_to_do(keys: dict[str, Any], message: str) -> None:
    assert list(problems(small_recipe(**keys))) == [message]


def test_keys_of_the_chosen_method_are_taken() -> None:
    assert not list(problems(small_recipe(sampler="oversample", sampler_count=5, loss="focal", focal_gamma=1.0)))
    assert not list(problems(small_recipe(schedule="step", step_epochs=3, rate_factor=0.5, momentum=0.8)))


def test_every_method_has_a_description() -> None:
    assert all(registry(key).description(name) for key in METHODS for name in registry(key).names())
