"""fastai's Learner, able to take a batch in pieces where memory is short, and to scale a loss where float16 is."""

from __future__ import annotations

from typing import Any

import torch
from fastai.callback.core import Callback
from fastai.learner import AvgSmoothLoss, Learner
from fastai.optimizer import Optimizer
from torch import Tensor


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
