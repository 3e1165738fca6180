"""Which members, and how many of their epochs, fit into a time: those that add most for their seconds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ensemble.data.dataset import Dataset
from ensemble.errors import DataError, RecipeError
from ensemble.files import read_json, sha256_json, write_json
from ensemble.recipe.schema import Recipe
from ensemble.training.estimate import Forecast
from ensemble.training.plan import plan
from ensemble.training.several import duration

SHARES = (1.0, 0.75, 0.5)
"""Of the epochs of the whole network; below half a schedule a member is no longer the one that was asked for."""


@dataclass(frozen=True)
class Choice:
    """shares: of the epochs that each chosen recipe gets, by its position.  seconds: the estimate of all."""

    shares: dict[int, float]
    seconds: float


def shortened(recipe: Recipe, share: float) -> Recipe:
    """`recipe` with this share of the epochs in which everything trains, one at least; the head's stay."""
    if share == 1:
        return recipe
    stages = tuple(
        stage if stage.train == "head" else stage.model_copy(update={"epochs": _part(stage.epochs, share)})
        for stage in recipe.stages
    )
    epochs = recipe.epochs and _part(recipe.epochs, share)
    return recipe.model_copy(update={"epochs": epochs, "stages": stages})


def _part(epochs: int, share: float) -> int:
    return max(1, round(epochs * share))


def choose(recipes: Sequence[Recipe], seconds: Sequence[Sequence[float]], budget: float) -> Choice:
    """What to train within `budget` seconds.

    seconds: for each of SHARES, the estimate of every recipe at that share; 0 where its run is complete, which is
    then kept as it is. A second member of an architecture is counted as half a first one and a third as a third of
    it, as the same network errs on the same images; a share s of the epochs as the root of s. Members are taken by
    that value for each second, for every share, and the share with the greatest sum wins, the longest of equals.
    Raises RecipeError where not one member fits.
    """
    complete = {index for index, cost in enumerate(seconds[0]) if cost == 0}
    best: tuple[float, Choice] | None = None
    for share, costs in zip(SHARES, seconds, strict=True):
        found = _taken(recipes, costs, complete, share, budget)
        if found[1].shares and (best is None or found[0] > best[0]):
            best = found
    if best is None:
        least = min(min(costs) for costs in seconds)
        raise RecipeError(
            f"no member fits into the budget; the shortest takes {duration(least)} at half the epochs"
        )
    return best[1]


def _taken(
    recipes: Sequence[Recipe], costs: Sequence[float], complete: set[int], share: float, budget: float
) -> tuple[float, Choice]:
    """The value of what is taken at one share, and that."""
    costs = [0.0 if index in complete else cost for index, cost in enumerate(costs)]
    left, spent, value = set(range(len(recipes))), 0.0, 0.0
    shares: dict[int, float] = {}
    had: Counter[str] = Counter()
    while fitting := [index for index in left if spent + costs[index] <= budget]:
        worth = {index: 1 / (1 + had[recipes[index].arch]) for index in fitting}
        index = max(fitting, key=lambda index: (worth[index] / max(costs[index], 1e-9), -index))
        left.remove(index)
        had[recipes[index].arch] += 1
        shares[index] = 1.0 if index in complete else share
        spent, value = spent + costs[index], value + worth[index] * math.sqrt(shares[index])
    return value, Choice(dict(sorted(shares.items())), spent)


def within(
    recipes: Sequence[Recipe],
    dataset: Dataset,
    folder: Path,
    device: torch.device,
    budget: float,
    *,
    keep: bool = True,
) -> tuple[list[Recipe], Choice]:
    """The recipes to train within `budget` seconds, with their epochs; those of complete runs cost nothing.

    keep: write the choice into the runs folder, so that the same command, interrupted or repeated, goes on with
    the same members. Raises RecipeError where not one fits, and whatever planning and probing a recipe raises.
    """
    fingerprint = dataset.fingerprint
    hashes = [plan(recipe, fingerprint, folder).hash for recipe in recipes]
    path = folder / ".data" / "budgets" / f"{sha256_json([hashes, budget])[:16]}.json"
    try:
        kept = read_json(path)
        choice = Choice({int(index): share for index, share in kept["shares"].items()}, kept["seconds"])
    except (DataError, KeyError, TypeError, AttributeError):
        forecast = Forecast(dataset, device)
        seconds = [
            [forecast.seconds(plan(shortened(recipe, share), fingerprint, folder)) for recipe in recipes]
            for share in SHARES
        ]
        choice = choose(recipes, seconds, budget)
        if keep:
            write_json(path, {"shares": choice.shares, "seconds": choice.seconds})
    return [shortened(recipes[index], share) for index, share in choice.shares.items()], choice
