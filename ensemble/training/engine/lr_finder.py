"""Learning-rate finder (Smith 2017) that, unlike fastai's, handles short loaders and NaN losses."""

from __future__ import annotations

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

from ensemble.core.table import Table
from ensemble.recipe.resolve import head_by_regression, training_stages
from ensemble.recipe.schema import ResolvedRecipe
from ensemble.training.engine import callback_order
from ensemble.training.engine.checkpoint import copied_state

MIN_POINTS = 20
"""Minimum number of points of a curve for a suggestion."""
FALLBACK = 1e-3
MAX_RISE = 1.5
"""Rise of the loss, in nats, at which the range test of a fitted network stops."""
DEFAULT_RATE, DEFAULT_RATE_WIDE = 2e-4, 1e-2
"""Rate after a fitted head if the curve is not usable: for Adam-like optimizers, and for others."""


@dataclass(frozen=True)
class Curve:
    """Rates and losses of the range test, one per step, the suggested rate and the reason for it."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float
    reason: str


@dataclass(frozen=True)
class Search:
    """Settings of a range test: rates from `low` to `high`, geometrically spaced, one per step.

    smooth: whether the losses are fastai's running means instead of those of single steps.
    diverged: whether the losses so far have diverged.  suggest: the curve of rates and losses.
    """

    low: float
    high: float
    steps: int
    smooth: bool
    diverged: Callable[[Sequence[float]], bool]
    suggest: Callable[[Sequence[float], Sequence[float]], Curve]

    def rate(self, step: int) -> float:
        """Learning rate of a step, from 0."""
        return float(self.low * (self.high / self.low) ** (step / (self.steps - 1)))


class _RangeTest(Callback):  # type: ignore[misc]
    """Raises the rate exponentially with each batch and stops when the loss diverges."""

    order = callback_order.RANGE_TEST

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
        if len(self.rates) == self.search.steps or self.search.diverged(self.losses):
            raise CancelFitException

    def before_validate(self) -> None:
        raise CancelValidException


def find_rate(
    learner: Learner,
    search: Search,
    on_batch: Callable[[], None] = lambda: None,
    ratios: npt.NDArray[np.float64] | float = 1.0,
) -> Curve:
    """Run the range test, one batch per rate, restore the weights, and return the curve with its suggestion.

    ratios: (groups,), factors of the rate for each parameter group.
    The caller seeds again afterwards: the random states of torch and the loader have changed.
    """
    before = copied_state(learner.model)
    finder = _RangeTest(search, on_batch, ratios)
    epochs = search.steps // len(learner.dls.train) + 1
    learner.fit(epochs, cbs=[finder])
    learner.model.load_state_dict(before)
    learner.opt.clear_state()
    return search.suggest(finder.rates, finder.losses)


def suggest_valley(rates: Sequence[float], losses: Sequence[float]) -> Curve:
    """Curve with fastai's `valley` suggestion, without the first tenth and the last five steps."""
    kept_rates, kept_losses = list(rates[VALLEY.steps // 10 : -5]), list(losses[VALLEY.steps // 10 : -5])
    if len(kept_rates) < MIN_POINTS:
        reason = f"only {len(kept_rates)} usable steps before the loss ran away; the usual rate instead"
        return Curve(tuple(rates), tuple(losses), FALLBACK, reason)
    suggestion, _ = valley(kept_rates, kept_losses, len(kept_rates))
    return Curve(tuple(rates), tuple(losses), float(suggestion), "valley of the finder's curve")


def suggest_knee(rates: Sequence[float], losses: Sequence[float], default: float = DEFAULT_RATE) -> Curve:
    """Curve with the geometric mean of the default rate and the curve's knee, at most the knee, as suggestion.

    After a fitted head the loss has no valley: steps that are too large only increase it. The knee, where that
    begins, is uncertain by a factor of two or three, hence the geometric mean.
    """
    curve = tuple(rates), tuple(losses)
    if len(losses) < MIN_POINTS:
        return Curve(*curve, default, f"the loss ran away after {len(losses)} steps; the usual rate instead")
    knee = knee_of(rates, losses)
    if knee is None:
        return Curve(*curve, default, "the loss hardly depends on the rate; the usual rate instead")
    suggestion = min(knee, math.sqrt(knee * default))
    return Curve(
        *curve, suggestion, f"the finder's loss begins to rise at {knee:.1e}; the usual rate is {default:g}"
    )


def knee_of(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Rate at the knee of the least-squares fit: constant, then linear in log rate; None without a clear rise."""
    count = next((n for n in range(MIN_POINTS, len(losses)) if _far_above_start(losses[:n])), len(losses))
    x, start = np.log(rates[:count]), float(np.mean(losses[:5]))
    y = np.minimum(losses[:count], start + MAX_RISE)
    first = count // 10
    fits = [_fit_hinge(knee, x, y) for knee in x[first:-first]]
    best = min(range(len(fits)), key=lambda index: fits[index][1])
    (_, slope), error = fits[best]
    rise = slope * (x[-1] - x[first + best])
    return None if rise < 3 * math.sqrt(error / count) else float(rates[first + best])


def _fit_hinge(knee: float, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> tuple[Any, float]:
    """Least-squares fit, constant up to `knee`, then linear: (level, slope), and the sum of squared errors."""
    columns = np.stack([np.ones_like(x), np.maximum(0.0, x - knee)], axis=1)
    coefficients, *_ = np.linalg.lstsq(columns, y, rcond=None)
    return coefficients, float(((columns @ coefficients - y) ** 2).sum())


def _far_above_lowest(losses: Sequence[float]) -> bool:
    return losses[-1] > 4 * min(losses)


def _far_above_start(losses: Sequence[float]) -> bool:
    return len(losses) > MIN_POINTS and np.mean(losses[-5:]) > np.mean(losses[:5]) + MAX_RISE


VALLEY = Search(1e-7, 10.0, 100, True, _far_above_lowest, suggest_valley)
"""fastai's search, for a network or a head that starts with random weights."""
KNEE = Search(1e-5, 1e-2, 50, False, _far_above_start, suggest_knee)
"""For a network with a fitted head and an Adam-like optimizer."""
KNEE_WIDE = Search(1e-5, 10.0, 100, False, _far_above_start, partial(suggest_knee, default=DEFAULT_RATE_WIDE))
"""For a network with a fitted head and another optimizer, whose rates have another scale."""


def search_of(recipe: ResolvedRecipe) -> Search:
    """Search settings of a recipe."""
    if not any(stage.train == "head" for stage in training_stages(recipe)) or not head_by_regression(recipe):
        return VALLEY
    return KNEE if recipe.optimizer in ("adam", "adamw", "adam-l2") else KNEE_WIDE


def curves_csv(curves: dict[int, Curve]) -> str:
    """Content of lr_find.csv: columns stage, lr, loss."""
    points = [
        (stage, *point) for stage, curve in curves.items() for point in zip(curve.rates, curve.losses, strict=True)
    ]
    return Table(("stage", "lr", "loss"), points).csv()
