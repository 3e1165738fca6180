"""The fastai Learner of one stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastai.callback.core import Callback
from fastai.callback.progress import ProgressCallback
from fastai.callback.training import BnFreeze
from fastai.data.core import DataLoaders
from fastai.learner import AvgSmoothLoss, Learner
from fastai.optimizer import Optimizer
from torch import Tensor, nn

from ensemble.distill.teacher import Teacher
from ensemble.models.layers import kept_parameters, last_parameters
from ensemble.models.network import Network, parameter_groups
from ensemble.recipe.schema import Recipe, Stage
from ensemble.training.engine.epochs import Validation
from ensemble.training.engine.features import CachedFeatures, caches_features
from ensemble.training.methods.augment import mixings
from ensemble.training.methods.losses import Distilled, Loss, class_weights, losses
from ensemble.training.methods.optimizers import optimizer
from ensemble.training.methods.schedules import Rates


class _Steps:
    """A fastai optimizer as torch's GradScaler knows optimizers."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """All parameters, in one group: the scaler looks at nothing else."""
        return [{"params": [parameter for parameter, *_ in self.optimizer.all_params()]}]

    def step(self) -> None:
        """One step."""
        self.optimizer.step()


class Smooth(AvgSmoothLoss):  # type: ignore[misc]
    """fastai's smoothed loss where the loss is: fastai fetches every one from a GPU, which then waits."""

    def accumulate(self, learn: Learner) -> None:
        """One more batch."""
        self.count += 1
        loss = learn.loss.detach().mean()
        self.val: Tensor = torch.lerp(loss, self.val.to(loss.device), self.beta)


class Fetched(Callback):  # type: ignore[misc]
    """Has the recorder's losses in the computer's memory after a fit, as fastai's plots expect them."""

    order = 51

    def after_fit(self) -> None:
        """After the recorder (50)."""
        losses = self.learn.recorder.losses
        if losses:
            self.learn.recorder.losses = list(torch.stack(losses).cpu())


class MemberLearner(Learner):  # type: ignore[misc]
    """A Learner for networks that compute in any format, in as much memory as there is.

    pieces: every batch is taken in so many, one after another, and their gradients are added up. The batches, their
    augmentation, the schedule and the gradient of a mean loss are those of whole batches; only batch norms see the
    pieces. Callbacks see one batch: `after_pred` with all logits, one loss, one step.
    clip: the greatest norm of all gradients together; longer ones are shortened to it; 0 for any.
    scaler: multiplies the loss, so that float16 gradients do not vanish, and leaves out steps whose gradients
    overflowed (Micikevicius et al. 2018); None for formats with the range of float32.
    """

    pieces = 1
    clip = 0.0
    scaler: torch.amp.GradScaler | None = None
    _known: tuple[Any, ...] = ()
    _listeners: dict[str, list[Callback]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.recorder.smooth_loss = Smooth(beta=self.recorder.smooth_loss.beta)
        self.add_cb(Fetched())

    def _call_one(self, event_name: str) -> None:
        """Tell the callbacks that have something to do at an event, in their order.

        fastai asks all of them at every event, and each asks the learner for what it lacks, while a GPU has nothing
        to do. `after_fit` goes to all, as it puts those back to work that were told to rest.
        """
        known = tuple(map(id, self.cbs))
        if known != self._known:
            self._known, self._listeners = known, {}
        if event_name not in self._listeners:
            self._listeners[event_name] = [
                callback
                for callback in self.cbs.sorted("order")
                if event_name == "after_fit"
                or type(callback).__call__ is not Callback.__call__
                or event_name in vars(callback)
                or hasattr(type(callback), event_name)
            ]
        for callback in list(self._listeners[event_name]):
            callback(event_name)

    def _do_one_batch(self) -> None:
        if self.pieces == 1:
            super()._do_one_batch()
            return
        inputs = len(self.xb)
        mass = getattr(self.loss_func, "mass", len)  # what the mean of the loss is divided by
        whole = mass(self.yb[0])
        # validation takes twice as many images at a time; `chunk` could leave one alone, which no batch norm takes
        pieces = self.pieces if self.training else 2 * self.pieces
        preds, losses = [], []
        for part in zip(*(tensor.tensor_split(pieces) for tensor in (*self.xb, *self.yb)), strict=True):
            if not len(part[0]):
                continue
            pred = self.model(*part[:inputs])
            loss = self.loss_func(pred, *part[inputs:]) * (mass(part[inputs]) / whole)
            if self.training:
                self._scaled(loss).backward()  # type: ignore[no-untyped-call]
            preds.append(pred.detach())
            losses.append(loss.detach())
        self.pred = torch.cat(preds)
        self("after_pred")
        self.loss = self.loss_grad = torch.stack(losses).sum()
        self("after_loss")
        if self.training:
            self._do_grad_opt()

    def _backward(self) -> None:
        if self.pieces == 1:
            self._scaled(self.loss_grad).backward()  # type: ignore[no-untyped-call]

    def _step(self) -> None:
        steps: Any = _Steps(self.opt)
        if self.clip:
            if self.scaler is not None:
                self.scaler.unscale_(steps)
            torch.nn.utils.clip_grad_norm_((parameter for parameter, *_ in self.opt.all_params()), self.clip)
        if self.scaler is None:
            self.opt.step()
        else:
            self.scaler.step(steps)
            self.scaler.update()

    def _scaled(self, loss: Tensor) -> Tensor:
        return loss if self.scaler is None else self.scaler.scale(loss)


@dataclass
class LearnerBuilder:
    """Builds the learners of a member's stages.

    on_batch: called where batches are passed outside training.  pieces: in how many a batch is taken.
    teacher: whose output a student learns beside the labels.
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
