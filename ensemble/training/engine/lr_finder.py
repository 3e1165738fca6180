"""The learning-rate finder (Smith 2017), guarded: fastai's own fails on short loaders and on NaN."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from fastai.callback.core import Callback, CancelFitException, CancelValidException
from fastai.callback.schedule import valley
from fastai.learner import Learner

from ensemble.recipe.resolve import head_by_regression, training_stages
from ensemble.recipe.schema import Recipe
from ensemble.training.engine.checkpoint import copied_state

FEWEST = 20
"""Fewer points than this say nothing about a valley."""
FALLBACK = 1e-3
RUNAWAY = 1.5
"""How far above its start, in nats, a fitted network's loss may rise: more says nothing new."""
USUAL, USUAL_WIDE = 2e-4, 1e-2
"""After a fitted head, where its curve says nothing: for optimizers of Adam's kind, and for others."""


@dataclass(frozen=True)
class Curve:
    """rates and losses, one a step; `suggestion` and the reason for it."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float
    reason: str


@dataclass(frozen=True)
class Search:
    """Rates from `low` to `high`, one a step, in even ratios; when the loss has run away; what the curve suggests.

    smooth: whether the losses are fastai's running means, and not those of single steps.
    """

    low: float
    high: float
    steps: int
    smooth: bool
    over: Callable[[Sequence[float]], bool]
    suggest: Callable[[Sequence[float], Sequence[float]], Curve]

    def rate(self, step: int) -> float:
        """The rate of a step, from 0."""
        return float(self.low * (self.high / self.low) ** (step / (self.steps - 1)))


class _Range(Callback):  # type: ignore[misc]
    """Raises the rate exponentially from batch to batch and stops where the loss runs away."""

    order = 61

    def __init__(
        self, search: Search, on_batch: Callable[[], None], ratios: npt.NDArray[np.float64] | float
    ) -> None:
        super().__init__()
        self.search, self.ratios = search, ratios
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.mean = 0.0
        self.on_batch = on_batch

    def before_batch(self) -> None:
        self.rate = self.search.rate(len(self.rates))
        self.opt.set_hyper("lr", self.rate * self.ratios)

    def after_batch(self) -> None:
        loss = float(self.learn.loss.detach())
        if not math.isfinite(loss):
            raise CancelFitException
        # fastai's smoothing: an exponential mean with beta 0.98, corrected for its start
        self.mean = 0.98 * self.mean + 0.02 * loss
        self.rates.append(self.rate)
        self.losses.append(self.mean / (1 - 0.98 ** (len(self.losses) + 1)) if self.search.smooth else loss)
        self.on_batch()
        if len(self.rates) == self.search.steps or self.search.over(self.losses):
            raise CancelFitException

    def before_validate(self) -> None:
        raise CancelValidException


def find_rate(
    learner: Learner,
    search: Search,
    on_batch: Callable[[], None] = lambda: None,
    ratios: npt.NDArray[np.float64] | float = 1.0,
) -> Curve:
    """Try the rates of a search, a batch each, put the weights back, and suggest one.

    ratios: (groups,), what each parameter group has of the rate.
    The caller seeds again afterwards: the torch and loader states have moved on.
    """
    before = copied_state(learner.model)
    finder = _Range(search, on_batch, ratios)
    epochs = search.steps // len(learner.dls.train) + 1
    learner.fit(epochs, cbs=[finder])
    learner.model.load_state_dict(before)
    learner.opt.clear_state()
    return search.suggest(finder.rates, finder.losses)


def suggest_valley(rates: Sequence[float], losses: Sequence[float]) -> Curve:
    """The curve with fastai's `valley` suggestion, the first tenth and the last five steps left out."""
    kept_rates, kept_losses = list(rates[VALLEY.steps // 10 : -5]), list(losses[VALLEY.steps // 10 : -5])
    if len(kept_rates) < FEWEST:
        reason = f"only {len(kept_rates)} usable steps before the loss ran away; the usual rate instead"
        return Curve(tuple(rates), tuple(losses), FALLBACK, reason)
    suggestion, _ = valley(kept_rates, kept_losses, len(kept_rates))
    return Curve(tuple(rates), tuple(losses), float(suggestion), "valley of the finder's curve")


def suggest_knee(rates: Sequence[float], losses: Sequence[float], usual: float = USUAL) -> Curve:
    """The rate half of the way, in logarithms, from the usual one to the curve's knee, and never beyond the knee.

    A head that was fitted leaves no valley to descend into: any step that is too large makes the loss worse. The
    knee, where that begins, is uncertain by a factor of two or three, hence only half of the way.
    """
    curve = tuple(rates), tuple(losses)
    if len(losses) < FEWEST:
        return Curve(*curve, usual, f"the loss ran away after {len(losses)} steps; the usual rate instead")
    knee = knee_of(rates, losses)
    if knee is None:
        return Curve(*curve, usual, "the loss hardly depends on the rate; the usual rate instead")
    suggestion = min(knee, math.sqrt(knee * usual))
    return Curve(*curve, suggestion, f"the finder's loss begins to rise at {knee:.1e}; the usual rate is {usual:g}")


def knee_of(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Where a constant loss, followed by a line in the rate's logarithm, fits best; None where nothing rises."""
    count = next((n for n in range(FEWEST, len(losses)) if _far_above_the_start(losses[:n])), len(losses))
    x, start = np.log(rates[:count]), float(np.mean(losses[:5]))
    y = np.minimum(losses[:count], start + RUNAWAY)
    first = count // 10
    fits = [_line_from(knee, x, y) for knee in x[first:-first]]
    place = min(range(len(fits)), key=lambda index: fits[index][1])
    (_, slope), error = fits[place]
    rise = slope * (x[-1] - x[first + place])
    return None if rise < 3 * math.sqrt(error / count) else float(rates[first + place])


def _line_from(knee: float, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> tuple[Any, float]:
    """A constant that becomes a line at `knee`: (level, slope), and the sum of squared errors."""
    columns = np.stack([np.ones_like(x), np.maximum(0.0, x - knee)], axis=1)
    parts, *_ = np.linalg.lstsq(columns, y, rcond=None)
    return parts, float(((columns @ parts - y) ** 2).sum())


def _far_above_the_lowest(losses: Sequence[float]) -> bool:
    return losses[-1] > 4 * min(losses)


def _far_above_the_start(losses: Sequence[float]) -> bool:
    return len(losses) > FEWEST and np.mean(losses[-5:]) > np.mean(losses[:5]) + RUNAWAY


VALLEY = Search(1e-7, 10.0, 100, True, _far_above_the_lowest, suggest_valley)
"""fastai's, for a network or a head that begins with random weights."""
KNEE = Search(1e-5, 1e-2, 50, False, _far_above_the_start, suggest_knee)
"""For a network that goes on from a fitted head, with an optimizer of Adam's kind."""
KNEE_WIDE = Search(1e-5, 10.0, 100, False, _far_above_the_start, partial(suggest_knee, usual=USUAL_WIDE))
"""The same for other optimizers, whose rates are in other units."""


def search_of(recipe: Recipe) -> Search:
    """What the finder of a recipe tries."""
    if not any(stage.train == "head" for stage in training_stages(recipe)) or not head_by_regression(recipe):
        return VALLEY
    return KNEE if recipe.optimizer in ("adam", "adamw", "adam-l2") else KNEE_WIDE


def curves_csv(curves: dict[int, Curve]) -> str:
    """lr_find.csv as text: stage, lr, loss."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["stage", "lr", "loss"])
    for stage, curve in curves.items():
        writer.writerows((stage, rate, loss) for rate, loss in zip(curve.rates, curve.losses, strict=True))
    return out.getvalue()
