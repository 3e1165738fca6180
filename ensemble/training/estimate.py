"""How long a member will take, before it begins: from the probe of its network's speed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ensemble.data.dataset import Dataset
from ensemble.inference import views
from ensemble.models.network import Network, build_network
from ensemble.recipe.resolve import head_by_regression, training_stages
from ensemble.recipe.schema import Recipe
from ensemble.training.features import caches_features
from ensemble.training.finder import search_of
from ensemble.training.formats import Format, apply_format
from ensemble.training.plan import Job, view_of
from ensemble.training.probe import Speed, choose_format, compiling_pays, measure_speed, network_key
from ensemble.training.progressive import share_of_pixels
from ensemble.training.samplers import shown


@dataclass(frozen=True)
class Estimate:
    """Seconds of one member: training with its validations and its finder, and predicting every split."""

    training: float
    predicting: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.training + self.predicting


def best_format(job: Job, dataset: Dataset, network: Network, device: torch.device) -> Format:
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
                Format.read(begun["format"])
                if "format" in begun
                else choose_format(job.recipe, network, self.device)
            )
            apply_format(network, replace(chosen, compiled=False))
            self._speeds[key] = measure_speed(job.recipe, network, self.device, chosen)
        return self._speeds[key]
