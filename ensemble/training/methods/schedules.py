"""Learning-rate schedules by name: a schedule gives the hyper-parameters as functions of the stage's progress."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from fastai.callback.schedule import SchedCos, SchedLin, SchedNo, combine_scheds, combined_cos

from ensemble.core.registry import Registry
from ensemble.runs.history import Epoch
from ensemble.training.engine.epochs import plateaus

Rates = npt.NDArray[np.float64]
Scheduled = dict[str, Callable[[float], Any]]


@dataclass(frozen=True)
class Leg:
    """What a schedule is made for.

    rates: the highest rate of each parameter group.  head_only: the body is frozen.  fine_tuning: the body was
    pretrained.  epochs: of the stage.  step: epochs between reductions.  factor: what a reduction leaves.
    patience: epochs without a better validation loss before one.  rows: the stage's epochs so far.
    """

    rates: Rates
    head_only: bool = False
    fine_tuning: bool = False
    epochs: int = 1
    step: int = 7
    factor: float = 0.1
    patience: int = 2
    rows: Callable[[], Sequence[Epoch]] = tuple


Schedule = Callable[[Leg], Scheduled]

schedules: Registry[Schedule] = Registry("schedule")

MOMENTA = (0.95, 0.85, 0.95)


@schedules.register("one-cycle")
def one_cycle(leg: Leg) -> Scheduled:
    """Up and down again by cosines (Smith 2018), with the proportions of fastai's `fine_tune`.

    The head warms up nearly all the way (0.99), everything that was pretrained starts from a fifth, a network
    from scratch from a twenty-fifth.
    """
    start, div = (0.99, 25.0) if leg.head_only else (0.3, 5.0) if leg.fine_tuning else (0.3, 25.0)
    return {
        "lr": combined_cos(start, leg.rates / div, leg.rates, leg.rates / 1e5),
        "mom": combined_cos(start, *MOMENTA),
    }


@schedules.register("constant")
def constant(leg: Leg) -> Scheduled:
    """The same rates from the first batch to the last."""
    return {"lr": SchedNo(leg.rates, leg.rates)}


@schedules.register("triangle")
def triangle(leg: Leg) -> Scheduled:
    """In straight lines from a fifth of the rates up to them after 23 %, and down to 7 % (Jordan 2024)."""
    up, down = SchedLin(0.2 * leg.rates, leg.rates), SchedLin(leg.rates, 0.07 * leg.rates)
    return {"lr": combine_scheds([0.23, 0.77], [up, down])}


@schedules.register("linear")
def linear(leg: Leg) -> Scheduled:
    """In a straight line from the rates down to nothing."""
    return {"lr": SchedLin(leg.rates, 0.0 * leg.rates)}


@schedules.register("cosine")
def cosine(leg: Leg) -> Scheduled:
    """From the rates down to nothing by half a cosine (Loshchilov & Hutter 2017, without restarts)."""
    return {"lr": SchedCos(leg.rates, 0.0 * leg.rates)}


@schedules.register("step")
def step(leg: Leg) -> Scheduled:
    """Reduced to a tenth (`rate_factor`) after every seventh epoch (`step_epochs`), as torch's StepLR."""

    def rates(progress: float) -> Rates:
        # an epoch's first batch is a hair's breadth off its place
        reductions = math.floor(progress * leg.epochs / leg.step + 1e-6)
        return leg.rates * leg.factor**reductions

    return {"lr": rates}


@schedules.register("plateau")
def plateau(leg: Leg) -> Scheduled:
    """Reduced to a tenth (`rate_factor`) after more than `patience` epochs without a new lowest validation loss.

    As torch's ReduceLROnPlateau with threshold 0, but a function of the history: a resumed run decides the same.
    """
    return {"lr": lambda progress: leg.rates * leg.factor ** plateaus(leg.rows(), leg.patience)}
