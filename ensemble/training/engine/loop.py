"""The stages of one member, trained one after another, resumable to the bit at every epoch's end."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from fastai.callback.schedule import ParamScheduler
from fastai.data.core import DataLoaders
from fastai.learner import Learner

from ensemble.distill.teacher import Teacher
from ensemble.models.network import Network
from ensemble.recipe.resolve import head_by_regression, training_stages
from ensemble.recipe.schema import Recipe, Stage
from ensemble.runs.history import Epoch
from ensemble.training.engine.checkpoint import (
    Checkpoint,
    Tensors,
    copied_state,
    load_checkpoint,
    optimizer_state,
    random_states,
    restore_optimizer,
    save_checkpoint,
    seed_everything,
)
from ensemble.training.engine.epochs import History, Keeper, best_epoch, should_stop
from ensemble.training.engine.features import Regression, fitting
from ensemble.training.engine.learner import LearnerBuilder
from ensemble.training.engine.lr_finder import Curve, find_rate, search_of
from ensemble.training.methods.averaging import Average, averages
from ensemble.training.methods.progressive import progressive
from ensemble.training.methods.samplers import pruning, state_of
from ensemble.training.methods.schedules import Leg, schedules

CHECKPOINT_SHARE = 0.1
"""Checkpoints may take about this share of the time; tiny epochs are not each followed by a large write."""


class Watcher(Protocol):
    """Who is told how training goes: a progress bar, a log, nobody."""

    def resumed(self, epochs: int) -> None: ...
    def stage(self, index: int, stage: Stage, batches: int) -> None: ...
    def batch(self) -> None: ...
    def epoch(self, row: Epoch) -> None: ...


@dataclass
class Training:
    """One member while it trains.

    rates: what the finder chose, by stage; an interrupted run brings them along.
    decide: called with (stage, curve) when the finder has chosen, before the first step is taken.
    pieces: in how many a batch is taken, where it does not fit into memory.
    decided: what else was chosen on the way, for run.json.
    teacher: whose output a student learns beside the labels.
    """

    recipe: Recipe
    network: Network
    loaders: DataLoaders
    folder: Path
    rates: dict[int, float]
    decide: Callable[[int, Curve], None]
    watcher: Watcher
    pieces: int = 1
    rows: list[Epoch] = field(default_factory=list)
    best: Tensors = field(default_factory=dict)
    used: dict[int, float] = field(default_factory=dict)
    scaler: torch.amp.GradScaler | None = None
    average: Average | None = None
    decided: dict[str, Any] = field(default_factory=dict)
    teacher: Teacher | None = None
    builder: LearnerBuilder = field(init=False)
    _written: float = 0.0
    _write_cost: float = 0.0

    def __post_init__(self) -> None:
        self.builder = LearnerBuilder(
            self.recipe, self.network, self.loaders, self.folder, self.watcher.batch, self.pieces, self.teacher
        )

    def run(self) -> list[Epoch]:
        """Train every stage that is not done. Leaves the network with its final weights; returns the history."""
        resumed = load_checkpoint(self.folder)
        if resumed:
            self.network.load_state_dict(resumed.model)
            self.rows, self.best = list(resumed.rows), resumed.best
        self.watcher.resumed(len(self.rows))
        self._written = time.monotonic()
        for index, stage in enumerate(training_stages(self.recipe)):
            if resumed and index < resumed.stage:
                self._pass_over(index, stage)
            else:
                self._stage(index, stage, resumed if resumed and index == resumed.stage else None)
        self.network.forget_graphs()
        return self.rows

    def curve(self) -> Curve:
        """The finder's curve for the first stage that takes steps, after a head that is fitted."""
        stages = training_stages(self.recipe)
        index = next(place for place, stage in enumerate(stages) if not self._fits(stage))
        for place in range(index):
            self._fit_head(place, stages[place])
        self._seed(index, "finder")
        return self._find(stages[index], self.builder.learner(stages[index]))

    def _find(self, stage: Stage, learner: Learner) -> Curve:
        ratios = self.builder.group_rates(1.0, stage, learner)
        return find_rate(learner, search_of(self.recipe), self.watcher.batch, ratios)

    def _fits(self, stage: Stage) -> bool:
        """Whether a stage fits the head, rather than take steps."""
        return stage.train == "head" and head_by_regression(self.recipe)

    def _pass_over(self, index: int, stage: Stage) -> None:
        """A stage that was done before an interruption."""
        if not self._fits(stage):
            self.used[index] = self._rate(index, stage, None)

    def _stage(self, index: int, stage: Stage, resumed: Checkpoint | None) -> None:
        if not self._fits(stage):
            self._train(index, stage, resumed)
        elif resumed is None:  # a checkpoint of such a stage is of its end
            self._seed(index, "fit")
            learner = self.builder.learner(stage)
            self._fit_head(index, stage, self._record(learner))
            self.keep(index, stage.epochs - 1, learner, last=True)

    def _fit_head(self, index: int, stage: Stage, record: Callable[[Epoch], None] = lambda row: None) -> None:
        """Fit the head to the features of every image, augmented anew in each of the stage's epochs."""
        self._seed(index, "fit")
        self.watcher.stage(index, stage, len(self.loaders.train))
        regression = Regression(self.builder.loss())
        every = self.builder.valid_every
        for row in fitting(
            regression, self.network, self.loaders, stage.epochs, every, self.watcher.batch, self.pieces
        ):
            record(replace(row, stage=index))
        self.decided["head_decay"] = regression.decay

    def _train(self, index: int, stage: Stage, resumed: Checkpoint | None) -> None:
        self._seed(index, "finder")
        learner = self.builder.learner(stage)
        rate = self.used[index] = self._rate(index, stage, learner)
        self._seed(index, "fit")
        learner.scaler = self.scaler = self.builder.scaler()  # the finder has tired the one that it had
        if self.scaler is not None and resumed:
            self.scaler.load_state_dict(dict(resumed.scaler))
        if resumed:
            restore_optimizer(learner.opt, resumed.optimizer, resumed.plain)
        else:
            self.best = {}
        self.watcher.stage(index, stage, len(self.loaders.train))
        rates = self.builder.group_rates(rate, stage, learner)
        leg = Leg(
            rates,
            stage.train == "head",
            self.builder.fine_tunes(stage),
            stage.epochs,
            self.recipe.step_epochs,
            self.recipe.rate_factor,
            self.recipe.patience,
            lambda: self.stage_rows(index),
        )
        average = self.average = averages.get(self.recipe.average)(self.recipe, stage.epochs)
        average.restore(resumed.average if resumed else {})
        history = History(index, self._record(learner), self.watcher.batch)
        callbacks = [
            ParamScheduler(schedules.get(stage.schedule)(leg)),
            history,
            average,
            *progressive(self.recipe, self.network, stage.epochs),
            *pruning(self.loaders.train.sampler, resumed.sampler if resumed else {}),
            Keeper(self, index, resumed),
        ]
        if not should_stop(self.stage_rows(index), self.recipe.early_stopping):
            learner.fit(stage.epochs, cbs=callbacks, start_epoch=resumed.epoch + 1 if resumed else 0)
        self.decided |= average.finish(learner, lambda purpose: self._seed(index, purpose))
        if self.recipe.keep == "best" and self.best:
            self.network.load_state_dict(self.best)

    def _rate(self, index: int, stage: Stage, learner: Learner | None) -> float:
        """The stage's highest rate. `auto`: the finder's in the first that takes steps, half of it in the next."""
        if stage.lr != "auto":
            return stage.lr
        stages = training_stages(self.recipe)
        before = [place for place in range(index) if not self._fits(stages[place])]
        if before:
            return self._rate(before[-1], stages[before[-1]], learner) / 2
        if index not in self.rates:
            curve = self._find(stage, learner)
            self.rates[index] = curve.suggestion
            self.decide(index, curve)
        return self.rates[index]

    def _seed(self, index: int, purpose: str) -> None:
        seed_everything(self.recipe.seed, "stage", index, purpose)
        self.loaders.train.rng = random.Random(random.getrandbits(32))

    def _record(self, learner: Learner) -> Callable[[Epoch], None]:
        def record(row: Epoch) -> None:
            self.rows.append(row)
            rows = self.stage_rows(row.stage)
            if self.recipe.keep == "best" and best_epoch(rows) == len(rows) - 1:
                self.best = copied_state(self.network)
            self.watcher.epoch(row)

        return record

    def stage_rows(self, index: int) -> list[Epoch]:
        return [row for row in self.rows if row.stage == index]

    def keep(self, stage: int, epoch: int, learner: Learner, last: bool) -> None:
        """Write a checkpoint, unless writing takes more than its share of the time; always at a stage's end."""
        started = time.monotonic()
        if not last and started - self._written < self._write_cost / CHECKPOINT_SHARE:
            return
        tensors, plain = optimizer_state(learner.opt)
        save_checkpoint(
            self.folder,
            Checkpoint(
                stage=stage,
                epoch=epoch,
                model=self.network.state_dict(),
                optimizer=tensors,
                plain=plain,
                states=random_states(self.loaders.train.rng),
                rows=tuple(self.rows),
                best=self.best,
                average=self.average.state() if self.average else {},
                sampler=state_of(self.loaders.train.sampler),
                scaler=self.scaler.state_dict() if self.scaler is not None else {},
            ),
        )
        self._written = time.monotonic()
        self._write_cost = self._written - started
