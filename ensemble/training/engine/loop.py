"""Training of one member stage by stage, resumable bit for bit after every epoch."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

from fastai.callback.core import Callback
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
    CheckpointSaver,
    load_checkpoint,
    restore_optimizer,
    seed_everything,
)
from ensemble.training.engine.epochs import CheckpointWriter, History, should_stop
from ensemble.training.engine.features import Regression, fit_head
from ensemble.training.engine.learner import LearnerBuilder
from ensemble.training.engine.lr_finder import Curve, find_rate, search_of
from ensemble.training.engine.state import TrainingState
from ensemble.training.methods.averaging import averages
from ensemble.training.methods.progressive import progressive
from ensemble.training.methods.samplers import pruning
from ensemble.training.methods.schedules import Rates, StageSettings, schedules


class Watcher(Protocol):
    """Receives the progress of training: resumed epochs, start of a stage, batches, epochs."""

    def resumed(self, epochs: int) -> None: ...
    def stage(self, index: int, stage: Stage, batches: int) -> None: ...
    def batch(self) -> None: ...
    def epoch(self, row: Epoch) -> None: ...


@dataclass(frozen=True)
class Training:
    """The training of one member.

    rates: learning rates of the finder by stage, passed in for a resumed run.
    on_curve: called with (stage, curve) of the finder, before the first training step.
    pieces: number of pieces of a batch that does not fit into memory.
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
    teacher: Teacher | None = None

    @cached_property
    def state(self) -> TrainingState:
        """What has been reached."""
        return TrainingState(self.recipe.keep == "best")

    @cached_property
    def builder(self) -> LearnerBuilder:
        """Builds the learner of each stage."""
        return LearnerBuilder(
            self.recipe, self.network, self.loaders, self.folder, self.watcher.batch, self.pieces, self.teacher
        )

    @cached_property
    def saver(self) -> CheckpointSaver:
        """Saves checkpoints; its clock starts with the training."""
        return CheckpointSaver(self.folder)

    def run(self) -> TrainingState:
        """Train every incomplete stage, and leave the network with its final weights."""
        checkpoint = load_checkpoint(self.folder)
        if checkpoint:
            self.state.restore(checkpoint, self.network)
        self.watcher.resumed(len(self.state.rows))
        _ = self.saver
        for index, stage in enumerate(training_stages(self.recipe)):
            if checkpoint and index < checkpoint.stage:  # a resumed run had completed it
                if not self._fits_head(stage):
                    self.state.rates[index] = self._rate(index, stage, None)
            elif not self._fits_head(stage):
                self._train(index, stage, checkpoint if checkpoint and index == checkpoint.stage else None)
            elif not checkpoint or index != checkpoint.stage:  # its checkpoint is written at its end
                self._fit_and_save_head(index, stage)
        self.network.forget_graphs()
        return self.state

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

    def _fit_and_save_head(self, index: int, stage: Stage) -> None:
        self._seed(index, "fit")
        learner = self.builder.learner(stage)
        self._fit_head(index, stage, self._record)
        self.saver.save(lambda: self.state.checkpoint(index, stage.epochs - 1, learner), last=True)

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
        self.state.decisions["head_decay"] = regression.decay

    def _train(self, index: int, stage: Stage, checkpoint: Checkpoint | None) -> None:
        """Train a stage by gradient steps."""
        self._seed(index, "finder")
        learner = self.builder.learner(stage)
        rate = self.state.rates[index] = self._rate(index, stage, learner)
        self._seed(index, "fit")
        # the finder has changed the state of the first one
        learner.scaler = self.state.scaler = self.builder.scaler()
        if self.state.scaler is not None and checkpoint:
            self.state.scaler.load_state_dict(dict(checkpoint.scaler))
        if checkpoint:
            restore_optimizer(learner.opt, checkpoint.optimizer, checkpoint.scalars)
        else:
            self.state.best = {}
        self.watcher.stage(index, stage, len(self.loaders.train))
        average = self.state.average = averages.get(self.recipe.average)(self.recipe, stage.epochs)
        average.restore(checkpoint.average if checkpoint else {})
        callbacks = self._callbacks(index, stage, self.builder.group_rates(rate, stage, learner), checkpoint)
        if not should_stop(self.state.of_stage(index), self.recipe.early_stopping):
            learner.fit(stage.epochs, cbs=callbacks, start_epoch=checkpoint.epoch + 1 if checkpoint else 0)
        self.state.decisions |= average.finish(learner, lambda purpose: self._seed(index, purpose))
        if self.recipe.keep == "best" and self.state.best:
            self.network.load_state_dict(self.state.best)

    def _callbacks(self, index: int, stage: Stage, rates: Rates, checkpoint: Checkpoint | None) -> list[Callback]:
        """The callbacks of a stage beside those of its learner."""
        settings = StageSettings(
            rates,
            stage.train == "head",
            self.builder.fine_tunes(stage),
            stage.epochs,
            self.recipe.step_epochs,
            self.recipe.rate_factor,
            self.recipe.patience,
            lambda: self.state.of_stage(index),
        )

        def save(epoch: int, learner: Learner, last: bool) -> None:
            self.saver.save(lambda: self.state.checkpoint(index, epoch, learner), last=last)

        return [
            ParamScheduler(schedules.get(stage.schedule)(settings)),
            History(index, self._record, self.watcher.batch),
            self.state.average,
            *progressive(self.recipe, self.network, stage.epochs),
            *pruning(self.loaders.train.sampler, checkpoint.sampler if checkpoint else {}),
            CheckpointWriter(index, lambda: self.state.rows, save, self.recipe.early_stopping, checkpoint),
        ]

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

    def _record(self, row: Epoch) -> None:
        self.state.add(row, self.network)
        self.watcher.epoch(row)
