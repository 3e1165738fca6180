"""The stages of one member, trained one after another, resumable to the bit at every epoch's end."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from fastai.callback.core import Callback, CancelFitException, CancelValidException
from fastai.callback.progress import ProgressCallback
from fastai.callback.schedule import ParamScheduler
from fastai.callback.training import BnFreeze
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from torch import nn

from ensemble.combine.teaching import Teacher
from ensemble.models.depth import last_parameters, norms
from ensemble.models.network import Network, parameter_groups
from ensemble.recipe.resolve import training_stages
from ensemble.recipe.schema import Recipe, Stage
from ensemble.runs.history import Epoch
from ensemble.training.averaging import Average, averages
from ensemble.training.checkpoint import (
    Checkpoint,
    Tensors,
    copied_state,
    load_checkpoint,
    optimizer_state,
    restore_optimizer,
    save_checkpoint,
)
from ensemble.training.features import CachedFeatures, caches_features
from ensemble.training.finder import Curve, find_rate
from ensemble.training.history import History
from ensemble.training.learner import MemberLearner
from ensemble.training.losses import Distilled, Loss, class_weights, losses
from ensemble.training.mixing import mixings
from ensemble.training.optimizers import optimizer
from ensemble.training.progressive import progressive
from ensemble.training.pruning import pruning, state_of
from ensemble.training.schedules import Leg, Rates, schedules
from ensemble.training.seeds import random_states, restore_random_states, seed_everything
from ensemble.training.stopping import best_epoch, should_stop

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
    teacher: whose opinion a student learns beside the labels.
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
    _written: float = 0.0
    _write_cost: float = 0.0

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
                self.used[index] = self._rate(index, stage, None)
            else:
                self._stage(index, stage, resumed if resumed and index == resumed.stage else None)
        self.network.forget_graphs()
        return self.rows

    def curve(self) -> Curve:
        """The finder's curve for the first stage; the weights are as they were before."""
        self._seed(0, "finder")
        return find_rate(self._learner(training_stages(self.recipe)[0]), self.watcher.batch)

    def _stage(self, index: int, stage: Stage, resumed: Checkpoint | None) -> None:
        self._seed(index, "finder")
        learner = self._learner(stage)
        rate = self.used[index] = self._rate(index, stage, learner)
        self._seed(index, "fit")
        learner.scaler = self.scaler = self._new_scaler()  # the finder has tired the one that it had
        if self.scaler is not None and resumed:
            self.scaler.load_state_dict(dict(resumed.scaler))
        if resumed:
            restore_optimizer(learner.opt, resumed.optimizer, resumed.plain)
        else:
            self.best = {}
        self.watcher.stage(index, stage, len(self.loaders.train))
        fine_tuning = stage.train != "head" and self.recipe.weights != "none"
        rates = group_rates(rate, len(learner.opt.param_lists), fine_tuning)
        leg = Leg(
            rates,
            stage.train == "head",
            fine_tuning,
            stage.epochs,
            self.recipe.step_epochs,
            self.recipe.rate_factor,
            self.recipe.patience,
            lambda: self._stage_rows(index),
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
            _Keeper(self, index, resumed),
        ]
        if not should_stop(self._stage_rows(index), self.recipe.early_stopping):
            learner.fit(stage.epochs, cbs=callbacks, start_epoch=resumed.epoch + 1 if resumed else 0)
        self.decided |= average.finish(learner, lambda purpose: self._seed(index, purpose))
        if self.recipe.keep == "best" and self.best:
            self.network.load_state_dict(self.best)

    def _learner(self, stage: Stage) -> Learner:
        learner = MemberLearner(
            self.loaders,
            self.network,
            loss_func=self._loss(),
            opt_func=optimizer(self.recipe),
            splitter=parameter_groups,
            wd=self.recipe.weight_decay,
            path=self.folder,
            # a head that trains on a frozen body must not move the body's batch norms either
            train_bn=False,
            cbs=[
                BnFreeze(),
                _Validation(self.recipe.valid_every if "valid" in self._splits else None),
                *mixings.get(self.recipe.mixing)(self.recipe, self._target_columns),
                *([CachedFeatures(self.watcher.batch)] if caches_features(self.recipe, stage) else []),
            ],
        )
        learner.remove_cbs(learner._grab_cbs(ProgressCallback))
        learner.logger = lambda row: None  # fastai prints its rows to stdout
        learner.pieces, learner.scaler = self.pieces, self._new_scaler()
        self.network.graphed &= self.pieces == 1  # the gradients of pieces are added up
        learner.create_opt()
        if stage.train == "head":
            learner.freeze()
        else:
            learner.unfreeze()
        self._keep_still(stage)
        return learner

    def _keep_still(self, stage: Stage) -> None:
        """Freeze what neither the stage nor the recipe lets learn. BnFreeze keeps the statistics of its norms."""
        body, _ = self.network.children()
        still: set[nn.Parameter] = set()
        if isinstance(stage.train, int):
            still |= set(body.parameters()) - last_parameters(body, stage.train)
        if self.recipe.freeze_norms:
            still |= {parameter for norm in norms(body) for parameter in norm.parameters()}
        for parameter in still:
            parameter.requires_grad_(False)

    def _loss(self) -> Loss:
        balanced = self.recipe.class_weights == "balanced"
        weights = class_weights(self.loaders.train.lookup.labels, self.loaders.c) if balanced else None
        loss = losses.get(self.recipe.loss)(self.recipe, weights)
        return loss if self.teacher is None else Distilled(loss, self.teacher.temperature, self.teacher.alpha)

    @property
    def _target_columns(self) -> int:
        return int(self.loaders.c) * (1 if self.teacher is None else 2)

    def _new_scaler(self) -> torch.amp.GradScaler | None:
        if self.network.compute_dtype != torch.float16:
            return None
        return torch.amp.GradScaler(next(self.network.parameters()).device.type)

    def _rate(self, index: int, stage: Stage, learner: Learner | None) -> float:
        """The stage's highest rate. `auto` is the finder's in the first stage, then half of the stage before."""
        if stage.lr != "auto":
            return stage.lr
        if index > 0:
            return self._rate(index - 1, training_stages(self.recipe)[index - 1], learner) / 2
        if index not in self.rates:
            curve = find_rate(learner, self.watcher.batch)
            self.rates[index] = curve.suggestion
            self.decide(index, curve)
        return self.rates[index]

    def _seed(self, index: int, purpose: str) -> None:
        seed_everything(self.recipe.seed, "stage", index, purpose)
        self.loaders.train.rng = random.Random(random.getrandbits(32))

    def _record(self, learner: Learner) -> Callable[[Epoch], None]:
        def record(row: Epoch) -> None:
            self.rows.append(row)
            rows = self._stage_rows(row.stage)
            if self.recipe.keep == "best" and best_epoch(rows) == len(rows) - 1:
                self.best = copied_state(self.network)
            self.watcher.epoch(row)

        return record

    def _stage_rows(self, index: int) -> list[Epoch]:
        return [row for row in self.rows if row.stage == index]

    @property
    def _splits(self) -> set[str]:
        return {"train", "valid"} if len(self.loaders.valid_ds) else {"train"}

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


class _Keeper(Callback):  # type: ignore[misc]
    """Keeps checkpoints, puts the random states of a resumed run back, stops early when asked.

    The order is after SkipToEpoch (70), which cancels the epochs that are done, and after History (80).
    """

    order = 90

    def __init__(self, training: Training, stage: int, resumed: Checkpoint | None) -> None:
        super().__init__()
        self.owner, self.stage, self.resumed = training, stage, resumed

    def before_epoch(self) -> None:
        self.dls.train.epoch = len(self.owner.rows)  # over all stages
        if self.resumed:
            restore_random_states(self.resumed.states, self.dls.train.rng)
            self.resumed = None

    def after_epoch(self) -> None:
        rows = self.owner._stage_rows(self.stage)
        if not rows or rows[-1].epoch != self.epoch or self.resumed:
            return  # an epoch that was skipped on the way to where a resumed run goes on
        stop = should_stop(rows, self.owner.recipe.early_stopping)
        self.owner.keep(self.stage, self.epoch, self.learn, last=stop or self.epoch + 1 == self.n_epoch)
        if stop:
            raise CancelFitException


class _Validation(Callback):  # type: ignore[misc]
    """Validates after every so many epochs and after the last; never for None, as a refit has no such rows."""

    order = -20

    def __init__(self, every: int | None) -> None:
        super().__init__()
        self.every = every

    def before_validate(self) -> None:
        done = self.epoch + 1
        if self.every is None or (done % self.every and done != self.n_epoch):
            raise CancelValidException


def group_rates(rate: float, groups: int, fine_tuning: bool) -> Rates:
    """The highest rate of each parameter group: `rate`/100 to `rate` in even ratios when fine-tuning.

    A network from scratch has the same rate everywhere: its early layers have as much to learn.
    """
    return np.geomspace(rate / 100, rate, groups) if fine_tuning else np.full(groups, rate)
