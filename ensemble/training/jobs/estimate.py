"""How long training takes, and what fits into a budget of time."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ensemble.core.errors import DataError, RecipeError
from ensemble.core.files import read_json, sha256_json, write_json
from ensemble.data.dataset import Dataset
from ensemble.inference.forward import views
from ensemble.models.network import Network, build_network
from ensemble.recipe.resolve import head_by_regression, training_stages
from ensemble.recipe.schema import Recipe
from ensemble.training.engine.features import caches_features
from ensemble.training.engine.hardware import ComputeFormat, apply_format
from ensemble.training.engine.lr_finder import search_of
from ensemble.training.jobs.plan import Job, plan, view_of
from ensemble.training.jobs.speed_probe import Speed, choose_format, compiling_pays, measure_speed, network_key
from ensemble.training.methods.progressive import share_of_pixels
from ensemble.training.methods.samplers import shown

if TYPE_CHECKING:
    from ensemble.training.jobs.plan import Job


class RemainingTime:
    """How far a command is that trains many runs, and how long the rest takes if it is as quick."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = [job for job in jobs if not job.run.complete]
        self.epochs = sum(map(_epochs, self.jobs))
        self.done: list[Job] = []
        self.started = time.monotonic()

    def ended(self, job: Job) -> None:
        """A job is done, or has failed."""
        if job in self.jobs:
            self.done.append(job)

    def left(self) -> str:
        """`3 of 12 trained, about 14 min left`; nothing before the first and for one alone."""
        if not self.done or len(self.done) == len(self.jobs):
            return ""
        share = sum(map(_epochs, self.done)) / self.epochs
        seconds = (time.monotonic() - self.started) * (1 - share) / share
        return f"{len(self.done)} of {len(self.jobs)} trained, about {spoken_duration(seconds)} left"


def _epochs(job: Job) -> int:
    """Of all networks that a job needs."""
    return sum(stage.epochs for part in job.all() if part.kind != "folds" for stage in training_stages(part.recipe))


def spoken_duration(seconds: float) -> str:
    """`45 s`, `12 min`, `2 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


@dataclass(frozen=True)
class Estimate:
    """Seconds of one member: training with its validations and its finder, and predicting every split."""

    training: float
    predicting: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.training + self.predicting


def best_format(job: Job, dataset: Dataset, network: Network, device: torch.device) -> ComputeFormat:
    """The fastest format for this job, torch.compile included where the training is long enough for it to pay."""
    chosen = choose_format(job.recipe, network, device)
    apply_format(network, chosen)
    if job.recipe.compile is not None:
        return replace(chosen, compiled=job.recipe.compile)
    rate = chosen.speed or measure_speed(job.recipe, network, device, chosen).all
    seconds = estimate(job.recipe, dataset, Speed(*[rate] * 4)).training
    pays, why = compiling_pays(job.recipe, network, device, seconds)
    return replace(chosen, compiled=pays, why="; ".join(filter(None, (chosen.why, why))))


def estimate(recipe: Recipe, dataset: Dataset, speed: Speed) -> Estimate:
    """The seconds of a member of `recipe` on `dataset`, its own view of the data, at that speed."""
    sizes = {split: len(items) for split, items in dataset.splits.items()}
    train = int(shown(recipe, dataset.splits["train"].targets, len(dataset.classes)).sum())
    valid = sizes.get("valid", 0)
    seconds = 0.0
    batch = min(recipe.batch_size, train)
    images = train // batch * batch  # of whole batches, an epoch
    first = True  # of those that take steps
    for stage in training_stages(recipe):
        if caches_features(recipe, stage):
            seconds += (sizes["train"] + valid) / speed.valid
            continue
        if stage.train == "head" and head_by_regression(recipe):
            seconds += stage.epochs * (sizes["train"] + valid) / speed.valid
            continue
        rate = speed.head if stage.train == "head" else speed.all
        # a network for all rows has the rates of those that it is justified by
        if first and stage.lr == "auto" and "valid" in sizes:
            seconds += search_of(recipe).steps * batch / rate
        first = False
        checks = -(-stage.epochs // recipe.valid_every)
        seconds += (
            stage.epochs * share_of_pixels(recipe, stage.epochs) * images / rate + checks * valid / speed.valid
        )
    predicted = sum(size for split, size in sizes.items() if split != "train") * len(views.get(recipe.tta))
    return Estimate(seconds, predicted / speed.predict)


@dataclass(frozen=True)
class Forecast:
    """How long the runs of a data set take on a device.

    Networks are built without their weights, and probed where that was never done on this machine.
    """

    dataset: Dataset
    device: torch.device
    _speeds: dict[str, Speed] = field(default_factory=dict)

    def seconds(self, job: Job) -> float:
        """Of a job and all that it needs; what is complete takes none."""
        return sum(self.seconds_of_run(part) for part in job.all())

    def seconds_of_run(self, job: Job) -> float:
        """Of the job's own run: none where it is complete, or pools its folds."""
        if job.kind == "folds" or job.run.complete:
            return 0.0
        view = view_of(job, self.dataset)
        return estimate(job.recipe, view, self._speed(job, view)).seconds

    def _speed(self, job: Job, view: Dataset) -> Speed:
        begun: dict[str, Any] = dict(job.run.facts.get("auto", {})) if (job.path / "run.json").is_file() else {}
        key = network_key(job.recipe) + str(begun.get("format"))
        if key not in self._speeds:
            network = build_network(job.recipe, len(view.classes), None).to(self.device)
            chosen = (
                ComputeFormat.read(begun["format"])
                if "format" in begun
                else choose_format(job.recipe, network, self.device)
            )
            apply_format(network, replace(chosen, compiled=False))
            self._speeds[key] = measure_speed(job.recipe, network, self.device, chosen)
        return self._speeds[key]


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
            f"no member fits into the budget; the shortest takes {spoken_duration(least)} at half the epochs"
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
