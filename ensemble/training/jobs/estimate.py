"""Estimates of training time, and the choice of members within a time budget."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ensemble.core.errors import DataError, RecipeError
from ensemble.core.files import read_json, sha256_json, write_json
from ensemble.data.dataset import Dataset
from ensemble.inference.forward import views
from ensemble.models.network import Network, build_network
from ensemble.recipe.resolve import head_by_regression, training_stages
from ensemble.recipe.schema import ResolvedRecipe
from ensemble.runs.record import Kind
from ensemble.training.engine.features import caches_features
from ensemble.training.engine.hardware import ComputeFormat, apply_format
from ensemble.training.engine.lr_finder import search_of
from ensemble.training.jobs.plan import Job, plan, view_of
from ensemble.training.jobs.speed_probe import Speed, choose_format, compiling_pays, measure_speed, network_key
from ensemble.training.methods.progressive import share_of_pixels
from ensemble.training.methods.samplers import epoch_class_counts

if TYPE_CHECKING:
    from ensemble.training.jobs.plan import Job


class RemainingTime:
    """Remaining time of a command that trains several runs, extrapolated from the epochs done so far."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = [job for job in jobs if not job.run.complete]
        self.epochs = sum(map(_epochs, self.jobs))
        self.done: list[Job] = []
        self.started = time.monotonic()

    def ended(self, job: Job) -> None:
        """Record that a job is complete or has failed."""
        if job in self.jobs:
            self.done.append(job)

    def left(self) -> str:
        """`3 of 12 trained, about 14 min left`; empty before the first job ended and after the last."""
        if not self.done or len(self.done) == len(self.jobs):
            return ""
        share = sum(map(_epochs, self.done)) / self.epochs
        seconds = (time.monotonic() - self.started) * (1 - share) / share
        return f"{len(self.done)} of {len(self.jobs)} trained, about {format_duration(seconds)} left"


def _epochs(job: Job) -> int:
    """Epochs of all networks that a job needs."""
    return sum(
        stage.epochs for part in job.all() if part.kind is not Kind.FOLDS for stage in training_stages(part.recipe)
    )


def format_duration(seconds: float) -> str:
    """Duration as text: `45 s`, `12 min`, `2 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


@dataclass(frozen=True)
class Estimate:
    """Seconds of one member: training, including validation and finder, and predicting every split."""

    training: float
    predicting: float

    @property
    def seconds(self) -> float:
        """Sum of training and predicting."""
        return self.training + self.predicting


def best_format(job: Job, dataset: Dataset, network: Network, device: torch.device) -> ComputeFormat:
    """Fastest format for this job, with torch.compile if the training is long enough to benefit."""
    compute_format = choose_format(job.recipe, network, device)
    apply_format(network, compute_format)
    if job.recipe.compile is not None:
        return replace(compute_format, compiled=job.recipe.compile)
    rate = compute_format.speed or measure_speed(job.recipe, network, device, compute_format).all
    seconds = estimate(job.recipe, dataset, Speed(*[rate] * 4)).training
    pays, reason = compiling_pays(job.recipe, network, device, seconds)
    return replace(compute_format, compiled=pays, why="; ".join(filter(None, (compute_format.why, reason))))


def estimate(recipe: ResolvedRecipe, dataset: Dataset, speed: Speed) -> Estimate:
    """Estimate for a member of `recipe` on `dataset`, its own view of the data, at that speed."""
    sizes = {split: len(items) for split, items in dataset.splits.items()}
    train = int(epoch_class_counts(recipe, dataset.splits["train"].targets, len(dataset.classes)).sum())
    valid = sizes.get("valid", 0)
    seconds = 0.0
    batch = min(recipe.batch_size, train)
    images = train // batch * batch  # per epoch, in whole batches
    first_stage = True  # the first stage with gradient steps
    for stage in training_stages(recipe):
        if caches_features(recipe, stage):
            seconds += (sizes["train"] + valid) / speed.valid
            continue
        if stage.train == "head" and head_by_regression(recipe):
            seconds += stage.epochs * (sizes["train"] + valid) / speed.valid
            continue
        rate = speed.head if stage.train == "head" else speed.all
        # a network for all rows takes its rates from its first part instead
        if first_stage and stage.lr == "auto" and "valid" in sizes:
            seconds += search_of(recipe).steps * batch / rate
        first_stage = False
        checks = -(-stage.epochs // recipe.valid_every)
        seconds += (
            stage.epochs * share_of_pixels(recipe, stage.epochs) * images / rate + checks * valid / speed.valid
        )
    predicted = sum(size for split, size in sizes.items() if split != "train") * len(views.get(recipe.tta))
    return Estimate(seconds, predicted / speed.predict)


@dataclass(frozen=True)
class Forecast:
    """Estimated training time of the runs of a data set on a device.

    Networks are built without weights, and probed if this machine has no cached measurement.
    """

    dataset: Dataset
    device: torch.device
    _speeds: dict[str, Speed] = field(default_factory=dict)

    def seconds(self, job: Job) -> float:
        """Seconds of a job and all that it needs; complete runs take none."""
        return sum(self.seconds_of_run(part) for part in job.all())

    def seconds_of_run(self, job: Job) -> float:
        """Seconds of the job's own run: 0 if it is complete or pools its folds."""
        if job.kind is Kind.FOLDS or job.run.complete:
            return 0.0
        view = view_of(job, self.dataset)
        return estimate(job.recipe, view, self._speed(job, view)).seconds

    def _speed(self, job: Job, view: Dataset) -> Speed:
        recorded = job.run.record.auto.format if (job.path / "run.json").is_file() else None
        key = network_key(job.recipe) + str(recorded)
        if key not in self._speeds:
            network = build_network(job.recipe, len(view.classes), None).to(self.device)
            compute_format = (
                ComputeFormat.read(recorded)
                if recorded is not None
                else choose_format(job.recipe, network, self.device)
            )
            apply_format(network, replace(compute_format, compiled=False))
            self._speeds[key] = measure_speed(job.recipe, network, self.device, compute_format)
        return self._speeds[key]


SHARES = (1.0, 0.75, 0.5)
"""Shares of the epochs in which all layers train; below half of them a member differs too much from its recipe."""


@dataclass(frozen=True)
class Choice:
    """shares: share of the epochs of each chosen recipe, by its index.  seconds: estimated total."""

    shares: dict[int, float]
    seconds: float


def shortened(recipe: ResolvedRecipe, share: float) -> ResolvedRecipe:
    """`recipe` with this share of the epochs, at least one, of stages other than the head's."""
    if share == 1:
        return recipe
    stages = tuple(
        stage if stage.train == "head" else stage.model_copy(update={"epochs": _scaled_epochs(stage.epochs, share)})
        for stage in recipe.stages
    )
    epochs = recipe.epochs and _scaled_epochs(recipe.epochs, share)
    return recipe.model_copy(update={"epochs": epochs, "stages": stages})


def _scaled_epochs(epochs: int, share: float) -> int:
    return max(1, round(epochs * share))


def choose(recipes: Sequence[ResolvedRecipe], seconds: Sequence[Sequence[float]], budget: float) -> Choice:
    """Choose the members to train within `budget` seconds, greedily by value per second.

    seconds: for each of SHARES, the estimate of every recipe at that share; 0 if its run is complete, which is
    then kept unchanged. The nth member of an architecture has the value 1/n, as the same network makes errors on
    the same images, times sqrt(s) for a share s of the epochs. The share with the greatest total value is chosen,
    the longest of equal ones. Raises RecipeError if no member fits.
    """
    complete = {index for index, cost in enumerate(seconds[0]) if cost == 0}
    best: tuple[float, Choice] | None = None
    for share, costs in zip(SHARES, seconds, strict=True):
        selection = _select(recipes, costs, complete, share, budget)
        if selection[1].shares and (best is None or selection[0] > best[0]):
            best = selection
    if best is None:
        least = min(min(costs) for costs in seconds)
        raise RecipeError(
            f"no member fits into the budget; the shortest takes {format_duration(least)} at half the epochs"
        )
    return best[1]


def _select(
    recipes: Sequence[ResolvedRecipe], costs: Sequence[float], complete: set[int], share: float, budget: float
) -> tuple[float, Choice]:
    """Total value and choice at one share of the epochs."""
    costs = [0.0 if index in complete else cost for index, cost in enumerate(costs)]
    remaining, spent, value = set(range(len(recipes))), 0.0, 0.0
    shares: dict[int, float] = {}
    counts: Counter[str] = Counter()
    while affordable := [index for index in remaining if spent + costs[index] <= budget]:
        values = {index: 1 / (1 + counts[recipes[index].arch]) for index in affordable}
        index = max(affordable, key=lambda index: (values[index] / max(costs[index], 1e-9), -index))
        remaining.remove(index)
        counts[recipes[index].arch] += 1
        shares[index] = 1.0 if index in complete else share
        spent, value = spent + costs[index], value + values[index] * math.sqrt(shares[index])
    return value, Choice(dict(sorted(shares.items())), spent)


def fit_to_budget(
    recipes: Sequence[ResolvedRecipe],
    dataset: Dataset,
    folder: Path,
    device: torch.device,
    budget: float,
    *,
    keep: bool = True,
) -> tuple[list[ResolvedRecipe], Choice]:
    """Recipes to train within `budget` seconds, with their epochs shortened; complete runs cost nothing.

    keep: write the choice into the runs folder, so that the same command, interrupted or repeated, continues with
    the same members. Raises RecipeError if no member fits, and the errors of planning and probing a recipe.
    """
    fingerprint = dataset.fingerprint
    hashes = [plan(recipe, fingerprint, folder).hash for recipe in recipes]
    path = folder / ".data" / "budgets" / f"{sha256_json([hashes, budget])[:16]}.json"
    try:
        stored = read_json(path)
        choice = Choice({int(index): share for index, share in stored["shares"].items()}, stored["seconds"])
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
