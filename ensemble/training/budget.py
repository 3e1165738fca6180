"""Which members, and how many of their epochs, fit into a time: those that add most for their seconds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ensemble.data.dataset import Dataset
from ensemble.errors import DataError, RecipeError
from ensemble.files import read_json, sha256_json, write_json
from ensemble.recipe.schema import Recipe
from ensemble.training.estimate import Forecast
from ensemble.training.plan import plan

SHARES = (1.0, 0.75, 0.5)
"""Of the epochs of the whole network; below half a schedule a member is no longer the one that was asked for."""


@dataclass(frozen=True)
class Choice:
    """members: which of the recipes, by position.  share: of their epochs.  seconds: the estimate."""

    members: tuple[int, ...]
    share: float
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

    seconds: for each of SHARES, the estimate of every recipe at that share; 0 where its run is complete.
    A second member of an architecture is counted as half a first one and a third as a third of it, as the same
    network errs on the same images; a share s of the epochs as the root of s. Members are taken by that value
    for each second, for every share, and the share with the greatest sum wins, the longest of equals.
    Raises RecipeError where not one member fits.
    """
    best: tuple[float, Choice] | None = None
    for share, costs in zip(SHARES, seconds, strict=True):
        members, spent, value = _taken(recipes, costs, budget)
        worth = value * math.sqrt(share)
        if members and (best is None or worth > best[0]):
            best = worth, Choice(tuple(sorted(members)), share, spent)
    if best is None:
        least = min(min(costs) for costs in seconds)
        raise RecipeError(
            f"no member fits into the budget; the shortest takes about {duration(least)} at half its epochs"
        )
    return best[1]


def _taken(recipes: Sequence[Recipe], costs: Sequence[float], budget: float) -> tuple[list[int], float, float]:
    left, spent, value = set(range(len(recipes))), 0.0, 0.0
    taken: list[int] = []
    had: Counter[str] = Counter()
    while True:
        fitting = [index for index in left if spent + costs[index] <= budget]
        if not fitting:
            return taken, spent, value
        worth = {index: 1 / (1 + had[recipes[index].arch]) for index in fitting}
        index = max(fitting, key=lambda index: (worth[index] / max(costs[index], 1e-9), -index))
        left.remove(index)
        taken.append(index)
        had[recipes[index].arch] += 1
        spent, value = spent + costs[index], value + worth[index]


def remembered(folder: Path, hashes: Sequence[str], budget: float, find: Callable[[], Choice]) -> Choice:
    """What `find` chooses, kept in `folder` until `forget`, so that an interrupted command goes on with it."""
    path = _path(folder, hashes, budget)
    try:
        kept = read_json(path)
        return Choice(tuple(kept["members"]), kept["share"], kept["seconds"])
    except (DataError, KeyError, TypeError):
        choice = find()
        facts = {"members": list(choice.members), "share": choice.share, "seconds": choice.seconds}
        write_json(path, facts)
        return choice


def forget(folder: Path, hashes: Sequence[str], budget: float) -> None:
    """Drop what `remembered` kept: all of it is trained."""
    _path(folder, hashes, budget).unlink(missing_ok=True)


def fitting(
    recipes: Sequence[Recipe], fingerprint: str, dataset: Dataset, folder: Path, device: torch.device, budget: float
) -> tuple[list[Recipe], Choice]:
    """The recipes to train within `budget` seconds, with their epochs; those of complete runs cost nothing.

    Raises RecipeError where not one fits, MissingWeights for a member whose weights are not to be had.
    """
    jobs = [plan(recipe, fingerprint, folder) for recipe in recipes]
    hashes = [job.hash for job in jobs]

    def find() -> Choice:
        forecast = Forecast(dataset, device)
        seconds = [
            [forecast.seconds(plan(shortened(recipe, share), fingerprint, folder)) for recipe in recipes]
            for share in SHARES
        ]
        return choose(recipes, seconds, budget)

    choice = remembered(folder, hashes, budget, find)
    chosen = [shortened(recipes[index], choice.share) for index in choice.members]
    if all(plan(recipe, fingerprint, folder).run.complete for recipe in chosen):
        forget(folder, hashes, budget)  # and see what else fits by now
        choice = remembered(folder, hashes, budget, find)
        chosen = [shortened(recipes[index], choice.share) for index in choice.members]
    return chosen, choice


def _path(folder: Path, hashes: Sequence[str], budget: float) -> Path:
    return folder / ".data" / "budgets" / f"{sha256_json([list(hashes), budget])[:16]}.json"


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `2 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
