"""Plans: what a budget chooses, and the times that it reads."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble.recipe.schema import Recipe, Stage

ARCHS = ("vgg19", "resnet34", "densenet121")


def recipes(*archs: str) -> list[Recipe]:
    return [Recipe(arch=arch, epochs=8, frozen_epochs=2) for arch in archs]


@given(
    archs=st.lists(st.sampled_from(ARCHS), min_size=1, max_size=8),
    costs=st.lists(st.floats(1, 1000), min_size=8, max_size=8),
    budget=st.floats(0.4, 5000),
)
def test_budget_is_kept_and_used_up(archs: list[str], costs: list[float], budget: float) -> None:
    from ensemble.core.errors import RecipeError
    from ensemble.training.jobs.estimate import SHARES, choose

    seconds = [[share * cost for cost in costs[: len(archs)]] for share in SHARES]
    try:
        choice = choose(recipes(*archs), seconds, budget)
    except RecipeError:
        assert budget < min(min(row) for row in seconds)
        return
    (share,) = set(choice.shares.values())
    row = seconds[SHARES.index(share)]
    assert choice.seconds == pytest.approx(sum(row[index] for index in choice.shares))
    assert choice.seconds <= budget
    left = set(range(len(archs))) - set(choice.shares)
    assert all(choice.seconds + row[index] > budget for index in left)


def test_budget_for_everything_takes_everything() -> None:
    from ensemble.training.jobs.estimate import choose

    choice = choose(recipes(*ARCHS, "vgg19"), [[100] * 4, [75] * 4, [50] * 4], 400)
    assert (choice.shares, choice.seconds) == (dict.fromkeys(range(4), 1.0), 400)


def test_budget_takes_architectures_before_seeds() -> None:
    from ensemble.training.jobs.estimate import choose

    choice = choose(recipes("vgg19", "vgg19", "resnet34", "densenet121"), [[100] * 4] * 3, 300)
    assert choice.shares == {0: 1.0, 2: 1.0, 3: 1.0}


def test_budget_shortens_epochs_for_more_members() -> None:
    from ensemble.training.jobs.estimate import choose

    # whole: one architecture of three; halved: two of them, at 1 / sqrt(2) each
    choice = choose(recipes(*ARCHS), [[100] * 3, [75] * 3, [50] * 3], 100)
    assert choice.shares == {0: 0.5, 1: 0.5}
    # a second seed is worth less than the epochs
    choice = choose(recipes("vgg19", "vgg19"), [[100] * 2, [75] * 2, [50] * 2], 100)
    assert 1.5 * math.sqrt(0.5) > 1
    assert choice.shares == {0: 0.5, 1: 0.5}
    choice = choose(recipes("vgg19", "vgg19"), [[100] * 2, [75] * 2, [60] * 2], 100)
    assert choice.shares == {0: 1.0}


@pytest.mark.parametrize(
    ("budget", "expected"), [(100, {0: 1.0, 1: 0.5, 2: 0.5}), (50, {0: 1.0, 1: 0.5}), (10, {0: 1.0}), (200, None)]
)
def test_budget_keeps_complete_members(budget: float, expected: dict[int, float] | None) -> None:
    from ensemble.training.jobs.estimate import choose

    choice = choose(recipes(*ARCHS), [[0, 100, 100], [75, 75, 75], [50, 50, 50]], budget)
    assert choice.shares == (expected or dict.fromkeys(range(3), 1.0))


@pytest.mark.parametrize(("share", "epochs"), [(1.0, 8), (0.75, 6), (0.5, 4), (0.01, 1)])
def test_budget_shortens_only_the_epochs_of_the_whole_network(share: float, epochs: int) -> None:
    from ensemble.training.jobs.estimate import shortened

    (plain,) = recipes("vgg19")
    short = shortened(plain, share)
    assert (short.epochs, short.frozen_epochs) == (epochs, 2)
    staged = Recipe(arch="vgg19", stages=(Stage(train="head", epochs=3), Stage(epochs=8)))
    assert [stage.epochs for stage in shortened(staged, share).stages] == [3, epochs]
    headless = Recipe(arch="vgg19", epochs=0, frozen_epochs=3)
    assert shortened(headless, share).epochs == 0
