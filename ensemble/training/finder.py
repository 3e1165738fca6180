"""The learning-rate finder (Smith 2017), guarded: fastai's own fails on short loaders and on NaN."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from fastai.callback.core import Callback, CancelFitException, CancelValidException
from fastai.callback.schedule import valley
from fastai.learner import Learner

from ensemble.training.checkpoint import copied_state

LOWEST, HIGHEST, STEPS = 1e-7, 10.0, 100
FEWEST = 20
"""Fewer points than this say nothing about a valley."""
FALLBACK = 1e-3


@dataclass(frozen=True)
class Curve:
    """rates and losses (smoothed), one a step; `suggestion` and the reason for it."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float
    reason: str


class _Range(Callback):  # type: ignore[misc]
    """Raises the rate exponentially from batch to batch and stops where the loss runs away."""

    order = 61

    def __init__(self, on_batch: Callable[[], None], ratios: npt.NDArray[np.float64] | float) -> None:
        super().__init__()
        self.ratios = ratios
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.mean = 0.0
        self.on_batch = on_batch

    def before_batch(self) -> None:
        self.rate = LOWEST * (HIGHEST / LOWEST) ** (len(self.rates) / (STEPS - 1))
        self.opt.set_hyper("lr", self.rate * self.ratios)

    def after_batch(self) -> None:
        loss = float(self.learn.loss.detach())
        if not math.isfinite(loss):
            raise CancelFitException
        # fastai's smoothing: an exponential mean with beta 0.98, corrected for its start
        self.mean = 0.98 * self.mean + 0.02 * loss
        self.rates.append(self.rate)
        self.losses.append(self.mean / (1 - 0.98 ** (len(self.losses) + 1)))
        self.on_batch()
        if len(self.rates) == STEPS or self.losses[-1] > 4 * min(self.losses):
            raise CancelFitException

    def before_validate(self) -> None:
        raise CancelValidException


def find_rate(
    learner: Learner, on_batch: Callable[[], None] = lambda: None, ratios: npt.NDArray[np.float64] | float = 1.0
) -> Curve:
    """Try rates from 1e-7 to 10 over 100 batches, put the weights back, suggest one by the longest valley.

    ratios: (groups,), what each parameter group has of the rate.
    The caller seeds again afterwards: the torch and loader states have moved on.
    """
    before = copied_state(learner.model)
    finder = _Range(on_batch, ratios)
    epochs = STEPS // len(learner.dls.train) + 1
    learner.fit(epochs, cbs=[finder])
    learner.model.load_state_dict(before)
    learner.opt.clear_state()
    return suggest(finder.rates, finder.losses)


def suggest(rates: list[float], losses: list[float]) -> Curve:
    """The curve with fastai's `valley` suggestion, the first tenth and the last five steps left out."""
    kept_rates, kept_losses = rates[STEPS // 10 : -5], losses[STEPS // 10 : -5]
    if len(kept_rates) < FEWEST:
        reason = f"only {len(kept_rates)} usable steps before the loss ran away; the usual rate instead"
        return Curve(tuple(rates), tuple(losses), FALLBACK, reason)
    suggestion, _ = valley(kept_rates, kept_losses, len(kept_rates))
    return Curve(tuple(rates), tuple(losses), float(suggestion), "valley of the finder's curve")


def curves_csv(curves: dict[int, Curve]) -> str:
    """lr_find.csv as text: stage, lr, loss."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["stage", "lr", "loss"])
    for stage, curve in curves.items():
        writer.writerows((stage, rate, loss) for rate, loss in zip(curve.rates, curve.losses, strict=True))
    return out.getvalue()
