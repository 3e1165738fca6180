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
from ensemble.recipe.schema import ResolvedRecipe, Stage
from ensemble.training.engine import callback_order
from ensemble.training.engine.epochs import Validation
from ensemble.training.engine.features import CachedFeatures, caches_features
from ensemble.training.methods.augment import mixings
from ensemble.training.methods.losses import Distilled, Loss, class_weights, losses
from ensemble.training.methods.optimizers import optimizer
from ensemble.training.methods.schedules import Rates


class _ScalerOptimizer:
    """Adapter of a fastai optimizer to the interface that torch's GradScaler expects."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """All parameters in one group; the scaler reads nothing else."""
        return [{"params": [parameter for parameter, *_ in self.optimizer.all_params()]}]

    def step(self) -> None:
        """Take one step of the optimizer."""
        self.optimizer.step()


class SmoothLoss(AvgSmoothLoss):  # type: ignore[misc]
    """fastai's smoothed loss on the device of the loss: fastai copies each one to the CPU, which blocks the GPU."""

    def accumulate(self, learn: Learner) -> None:
        """Add the loss of one batch."""
        self.count += 1
        loss = learn.loss.detach().mean()
        self.val: Tensor = torch.lerp(loss, self.val.to(loss.device), self.beta)


class FetchLosses(Callback):  # type: ignore[misc]
    """Moves the recorder's losses to the CPU after a fit, as fastai's plots expect."""

    order = callback_order.FETCH_LOSSES

    def after_fit(self) -> None:
        """Move the losses; runs after the recorder (50)."""
        losses = self.learn.recorder.losses
        if losses:
            self.learn.recorder.losses = list(torch.stack(losses).cpu())


class MemberLearner(Learner):  # type: ignore[misc]
    """A Learner with gradient accumulation, gradient clipping and loss scaling.

    pieces: number of pieces of each batch; they run one after another and their gradients are added. The batches,
    their augmentation, the schedule and the gradient of a mean loss are those of whole batches; only batch norms
    see pieces. Callbacks see one batch: `after_pred` with all logits, one loss, one step.
    clip: maximum norm of all gradients together, to which larger ones are scaled down; 0 for no clipping.
    scaler: scales the loss, so that float16 gradients do not underflow, and skips steps whose gradients
    overflowed (Micikevicius et al. 2018); None for formats with the range of float32.
    """

    pieces = 1
    clip = 0.0
    scaler: torch.amp.GradScaler | None = None
    _callback_ids: tuple[Any, ...] = ()
    _event_callbacks: dict[str, list[Callback]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.recorder.smooth_loss = SmoothLoss(beta=self.recorder.smooth_loss.beta)
        self.add_cb(FetchLosses())

    def _call_one(self, event_name: str) -> None:
        """Call only the callbacks that implement an event, in their order.

        fastai calls all of them at every event, and each looks up missing attributes in the learner while the GPU
        is idle. `after_fit` calls all of them, as it re-enables callbacks whose `run` is False.
        """
        callback_ids = tuple(map(id, self.cbs))
        if callback_ids != self._callback_ids:
            self._callback_ids, self._event_callbacks = callback_ids, {}
        if event_name not in self._event_callbacks:
            self._event_callbacks[event_name] = [
                callback
                for callback in self.cbs.sorted("order")
                if event_name == "after_fit"
                or type(callback).__call__ is not Callback.__call__
                or event_name in vars(callback)
                or hasattr(type(callback), event_name)
            ]
        for callback in list(self._event_callbacks[event_name]):
            callback(event_name)

    def _do_one_batch(self) -> None:
        if self.pieces == 1:
            super()._do_one_batch()
            return
        n_inputs = len(self.xb)
        mass = getattr(self.loss_func, "mass", len)  # the denominator of the mean loss
        total_mass = mass(self.yb[0])
        # a validation batch is twice as large; `chunk` could leave a single image, on which batch norm fails
        pieces = self.pieces if self.training else 2 * self.pieces
        preds, losses = [], []
        for piece in zip(*(tensor.tensor_split(pieces) for tensor in (*self.xb, *self.yb)), strict=True):
            if not len(piece[0]):
                continue
            pred = self.model(*piece[:n_inputs])
            loss = self.loss_func(pred, *piece[n_inputs:]) * (mass(piece[n_inputs]) / total_mass)
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
        adapter: Any = _ScalerOptimizer(self.opt)
        if self.clip:
            if self.scaler is not None:
                self.scaler.unscale_(adapter)
            torch.nn.utils.clip_grad_norm_((parameter for parameter, *_ in self.opt.all_params()), self.clip)
        if self.scaler is None:
            self.opt.step()
        else:
            self.scaler.step(adapter)
            self.scaler.update()

    def _scaled(self, loss: Tensor) -> Tensor:
        return loss if self.scaler is None else self.scaler.scale(loss)


@dataclass
class LearnerBuilder:
    """Builds the learners of a member's stages.

    on_batch: called for each batch outside the training loop.  pieces: number of pieces of a batch.
    teacher: the model whose output a student learns in addition to the labels.
    """

    recipe: ResolvedRecipe
    network: Network
    loaders: DataLoaders
    folder: Path
    on_batch: Callable[[], None]
    pieces: int = 1
    teacher: Teacher | None = None

    def learner(self, stage: Stage) -> Learner:
        """A learner with a new optimizer and the parameters frozen that the stage or the recipe excludes."""
        learner = MemberLearner(
            self.loaders,
            self.network,
            loss_func=self.loss(),
            opt_func=optimizer(self.recipe),
            splitter=parameter_groups,
            wd=self.recipe.weight_decay,
            path=self.folder,
            # training a head on a frozen body must not update the body's batch norms either
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
        learner.pieces, learner.scaler, learner.clip = self.pieces, self.scaler(), self.recipe.clip
        self.network.graphed &= self.pieces == 1  # the gradients of pieces are added up
        learner.create_opt()
        if stage.train == "head":
            learner.freeze()
        else:
            learner.unfreeze()
        self._freeze(stage)
        return learner

    def _freeze(self, stage: Stage) -> None:
        """Freeze what the stage or the recipe excludes. BnFreeze keeps the statistics of frozen norms."""
        body, _ = self.network.children()
        frozen: set[nn.Parameter] = set()
        if isinstance(stage.train, int):
            frozen |= set(body.parameters()) - last_parameters(body, stage.train)
        frozen |= kept_parameters(body, self.recipe.freeze_norms)
        for parameter in frozen:
            parameter.requires_grad_(False)

    def loss(self) -> Loss:
        """The recipe's loss, with class weights and distillation if it has them."""
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
        """Whether a stage trains pretrained layers of the body."""
        return stage.train != "head" and self.recipe.weights != "none"

    def group_rates(self, rate: float, stage: Stage, learner: Learner) -> Rates:
        """Maximum learning rate of each parameter group in a stage."""
        early = self.recipe.early_rate if self.fine_tunes(stage) else 1.0
        return group_rates(rate, len(learner.opt.param_lists), early)

    @property
    def valid_every(self) -> int | None:
        """Epochs between validations; None without validation rows."""
        return self.recipe.valid_every if len(self.loaders.valid_ds) else None

    @property
    def _target_columns(self) -> int:
        return int(self.loaders.c) * (1 if self.teacher is None else 2)


def group_rates(rate: float, groups: int, early: float) -> Rates:
    """Maximum learning rate of each parameter group: geometrically spaced from `early` * `rate` to `rate`.

    A network from scratch has the same rate everywhere, early = 1, as its early layers are random too.
    """
    return np.geomspace(rate / (1 / early), rate, groups) if early != 1 else np.full(groups, rate)
