"""The learner of one stage: its loss, its optimizer, what of the network learns, and at which share of the rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fastai.callback.progress import ProgressCallback
from fastai.callback.training import BnFreeze
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from torch import nn

from ensemble.combine.teaching import Teacher
from ensemble.models.depth import kept_parameters, last_parameters
from ensemble.models.network import Network, parameter_groups
from ensemble.recipe.schema import Recipe, Stage
from ensemble.training.epochs import Validation
from ensemble.training.features import CachedFeatures, caches_features
from ensemble.training.learner import MemberLearner
from ensemble.training.losses import Distilled, Loss, class_weights, losses
from ensemble.training.mixing import mixings
from ensemble.training.optimizers import optimizer
from ensemble.training.schedules import Rates


@dataclass
class LearnerBuilder:
    """Builds the learners of a member's stages.

    on_batch: called where batches are passed outside training.  pieces: in how many a batch is taken.
    teacher: whose opinion a student learns beside the labels.
    """

    recipe: Recipe
    network: Network
    loaders: DataLoaders
    folder: Path
    on_batch: Callable[[], None]
    pieces: int = 1
    teacher: Teacher | None = None

    def learner(self, stage: Stage) -> Learner:
        """A learner with a new optimizer, everything frozen that the stage or the recipe keeps as it is."""
        learner = MemberLearner(
            self.loaders,
            self.network,
            loss_func=self.loss(),
            opt_func=optimizer(self.recipe),
            splitter=parameter_groups,
            wd=self.recipe.weight_decay,
            path=self.folder,
            # a head that trains on a frozen body must not move the body's batch norms either
            train_bn=False,
            cbs=[
                BnFreeze(),
                Validation(self.valid_every),
                *mixings.get(self.recipe.mixing)(self.recipe, self._target_columns),
                *([CachedFeatures(self.on_batch)] if caches_features(self.recipe, stage) else []),
            ],
        )
        learner.remove_cbs(learner._grab_cbs(ProgressCallback))
        learner.logger = lambda row: None  # fastai prints its rows to stdout
        learner.pieces, learner.scaler, learner.clip = self.pieces, self.scaler(), self.recipe.clip or 0.0
        self.network.graphed &= self.pieces == 1  # the gradients of pieces are added up
        learner.create_opt()
        if stage.train == "head":
            learner.freeze()
        else:
            learner.unfreeze()
        self._freeze(stage)
        return learner

    def _freeze(self, stage: Stage) -> None:
        """Freeze what neither the stage nor the recipe lets learn. BnFreeze keeps the statistics of its norms."""
        body, _ = self.network.children()
        still: set[nn.Parameter] = set()
        if isinstance(stage.train, int):
            still |= set(body.parameters()) - last_parameters(body, stage.train)
        still |= kept_parameters(body, self.recipe.freeze_norms)
        for parameter in still:
            parameter.requires_grad_(False)

    def loss(self) -> Loss:
        """The recipe's loss, with class weights or a teacher where it has them."""
        balanced = self.recipe.class_weights == "balanced"
        weights = class_weights(self.loaders.train.lookup.labels, self.loaders.c) if balanced else None
        loss = losses.get(self.recipe.loss)(self.recipe, weights)
        return loss if self.teacher is None else Distilled(loss, self.teacher.temperature, self.teacher.alpha)

    def scaler(self) -> torch.amp.GradScaler | None:
        """A new gradient scaler for float16, None for the other formats."""
        if self.network.compute_dtype != torch.float16:
            return None
        return torch.amp.GradScaler(next(self.network.parameters()).device.type)

    def fine_tunes(self, stage: Stage) -> bool:
        """Whether a stage trains layers of the body that begin with learnt weights."""
        return stage.train != "head" and self.recipe.weights != "none"

    def group_rates(self, rate: float, stage: Stage, learner: Learner) -> Rates:
        """The highest rate of each parameter group in a stage."""
        early = (self.recipe.early_rate or 1.0) if self.fine_tunes(stage) else 1.0
        return group_rates(rate, len(learner.opt.param_lists), early)

    @property
    def valid_every(self) -> int | None:
        """Epochs between validations; None where there are no validation rows."""
        return self.recipe.valid_every if len(self.loaders.valid_ds) else None

    @property
    def _target_columns(self) -> int:
        return int(self.loaders.c) * (1 if self.teacher is None else 2)


def group_rates(rate: float, groups: int, early: float) -> Rates:
    """The highest rate of each parameter group: `early` times `rate` to `rate` in even ratios.

    A network from scratch has the same rate everywhere, early 1: its early layers have as much to learn.
    """
    return np.geomspace(rate / (1 / early), rate, groups) if early != 1 else np.full(groups, rate)
