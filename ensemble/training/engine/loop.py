"""Training of one member stage by stage, resumable bit for bit after every epoch."""

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
from ensemble.recipe.schema import ResolvedRecipe, Stage
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
from ensemble.training.engine.epochs import CheckpointWriter, History, best_epoch, should_stop
from ensemble.training.engine.features import Regression, fit_head
from ensemble.training.engine.learner import LearnerBuilder
from ensemble.training.engine.lr_finder import Curve, find_rate, search_of
from ensemble.training.methods.averaging import Average, averages
from ensemble.training.methods.progressive import progressive
from ensemble.training.methods.samplers import pruning, state_of
from ensemble.training.methods.schedules import StageSettings, schedules

CHECKPOINT_SHARE = 0.1
"""Approximate maximum share of the time spent on checkpoints, so that not every short epoch has a large write."""


class Watcher(Protocol):
    """Receives the progress of training: resumed epochs, start of a stage, batches, epochs."""

    def resumed(self, epochs: int) -> None: ...
    def stage(self, index: int, stage: Stage, batches: int) -> None: ...
    def batch(self) -> None: ...
    def epoch(self, row: Epoch) -> None: ...


@dataclass
class Training:
    """State of the training of one member.

    rates: learning rates of the finder by stage, passed in for a resumed run.
    on_curve: called with (stage, curve) of the finder, before the first training step.
    pieces: number of pieces of a batch that does not fit into memory.  used_rates: learning rate of each stage.
    decisions: what else was chosen during training, for run.json.
    teacher: the model whose output a student learns in addition to the labels.
    """

    recipe: ResolvedRecipe
    network: Network
    loaders: DataLoaders
    folder: Path
    rates: dict[int, float]
    on_curve: Callable[[int, Curve], None]
    watcher: Watcher
    pieces: int = 1
    rows: list[Epoch] = field(default_factory=list)
    best: Tensors = field(default_factory=dict)
    used_rates: dict[int, float] = field(default_factory=dict)
    scaler: torch.amp.GradScaler | None = None
    average: Average | None = None
    decisions: dict[str, Any] = field(default_factory=dict)
    teacher: Teacher | None = None
    builder: LearnerBuilder = field(init=False)
    _written: float = 0.0
    _write_cost: float = 0.0

    def __post_init__(self) -> None:
        self.builder = LearnerBuilder(
            self.recipe, self.network, self.loaders, self.folder, self.watcher.batch, self.pieces, self.teacher
        )

    def run(self) -> list[Epoch]:
        """Train every incomplete stage; returns the history and leaves the network with its final weights."""
        checkpoint = load_checkpoint(self.folder)
        if checkpoint:
            self.network.load_state_dict(checkpoint.model)
            self.rows, self.best = list(checkpoint.rows), checkpoint.best
        self.watcher.resumed(len(self.rows))
        self._written = time.monotonic()
        for index, stage in enumerate(training_stages(self.recipe)):
            if checkpoint and index < checkpoint.stage:
                self._skip(index, stage)
            else:
                self._run_stage(index, stage, checkpoint if checkpoint and index == checkpoint.stage else None)
        self.network.forget_graphs()
        return self.rows

    def curve(self) -> Curve:
        """The finder's curve of the first stage trained by gradient steps, after the head is fitted."""
        stages = training_stages(self.recipe)
        index = next(number for number, stage in enumerate(stages) if not self._fits_head(stage))
        for number in range(index):
            self._fit_head(number, stages[number])
        self._seed(index, "finder")
        return self._find(stages[index], self.builder.learner(stages[index]))

    def _find(self, stage: Stage, learner: Learner) -> Curve:
        ratios = self.builder.group_rates(1.0, stage, learner)
        return find_rate(learner, search_of(self.recipe), self.watcher.batch, ratios)

    def _fits_head(self, stage: Stage) -> bool:
        """Whether a stage fits the head by regression instead of gradient steps."""
        return stage.train == "head" and head_by_regression(self.recipe)

    def _skip(self, index: int, stage: Stage) -> None:
        """Skip a stage that a resumed run had completed."""
        if not self._fits_head(stage):
            self.used_rates[index] = self._rate(index, stage, None)

    def _run_stage(self, index: int, stage: Stage, checkpoint: Checkpoint | None) -> None:
        if not self._fits_head(stage):
            self._train(index, stage, checkpoint)
        elif checkpoint is None:  # the checkpoint of such a stage is written at its end
            self._seed(index, "fit")
            learner = self.builder.learner(stage)
            self._fit_head(index, stage, self._record(learner))
            self.write_checkpoint(index, stage.epochs - 1, learner, last=True)

    def _fit_head(self, index: int, stage: Stage, record: Callable[[Epoch], None] = lambda row: None) -> None:
        """Fit the head to the features of all images, with new augmentation in each epoch of the stage."""
        self._seed(index, "fit")
        self.watcher.stage(index, stage, len(self.loaders.train))
        regression = Regression(self.builder.loss())
        every = self.builder.valid_every
        for row in fit_head(
            regression, self.network, self.loaders, stage.epochs, every, self.watcher.batch, self.pieces
        ):
            record(replace(row, stage=index))
        self.decisions["head_decay"] = regression.decay

    def _train(self, index: int, stage: Stage, checkpoint: Checkpoint | None) -> None:
        self._seed(index, "finder")
        learner = self.builder.learner(stage)
        rate = self.used_rates[index] = self._rate(index, stage, learner)
        self._seed(index, "fit")
        learner.scaler = self.scaler = self.builder.scaler()  # the finder has changed the state of the first one
        if self.scaler is not None and checkpoint:
            self.scaler.load_state_dict(dict(checkpoint.scaler))
        if checkpoint:
            restore_optimizer(learner.opt, checkpoint.optimizer, checkpoint.scalars)
        else:
            self.best = {}
        self.watcher.stage(index, stage, len(self.loaders.train))
        rates = self.builder.group_rates(rate, stage, learner)
        settings = StageSettings(
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
        average.restore(checkpoint.average if checkpoint else {})
        history = History(index, self._record(learner), self.watcher.batch)
        callbacks = [
            ParamScheduler(schedules.get(stage.schedule)(settings)),
            history,
            average,
            *progressive(self.recipe, self.network, stage.epochs),
            *pruning(self.loaders.train.sampler, checkpoint.sampler if checkpoint else {}),
            CheckpointWriter(self, index, checkpoint),
        ]
        if not should_stop(self.stage_rows(index), self.recipe.early_stopping):
            learner.fit(stage.epochs, cbs=callbacks, start_epoch=checkpoint.epoch + 1 if checkpoint else 0)
        self.decisions |= average.finish(learner, lambda purpose: self._seed(index, purpose))
        if self.recipe.keep == "best" and self.best:
            self.network.load_state_dict(self.best)

    def _rate(self, index: int, stage: Stage, learner: Learner | None) -> float:
        """Maximum rate of the stage. `auto`: the finder's in the first stage with gradient steps, then halved."""
        if stage.lr != "auto":
            return stage.lr
        stages = training_stages(self.recipe)
        earlier = [number for number in range(index) if not self._fits_head(stages[number])]
        if earlier:
            return self._rate(earlier[-1], stages[earlier[-1]], learner) / 2
        if index not in self.rates:
            curve = self._find(stage, learner)
            self.rates[index] = curve.suggestion
            self.on_curve(index, curve)
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

    def write_checkpoint(self, stage: int, epoch: int, learner: Learner, last: bool) -> None:
        """Write a checkpoint, unless that exceeds CHECKPOINT_SHARE of the time; always if `last` in the stage."""
        started = time.monotonic()
        if not last and started - self._written < self._write_cost / CHECKPOINT_SHARE:
            return
        tensors, scalars = optimizer_state(learner.opt)
        save_checkpoint(
            self.folder,
            Checkpoint(
                stage=stage,
                epoch=epoch,
                model=self.network.state_dict(),
                optimizer=tensors,
                scalars=scalars,
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
