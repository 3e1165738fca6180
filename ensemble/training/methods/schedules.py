"""Learning-rate schedules by name: a schedule returns hyper-parameters as functions of the stage's progress."""

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
class StageSettings:
    """Settings of a training stage for a schedule.

    rates: maximum rate of each parameter group.  head_only: the body is frozen.  fine_tuning: the body is
    pretrained.  epochs: of the stage.  step: epochs between reductions.  factor: of the rate at a reduction.
    patience: epochs without a lower validation loss before a reduction.  rows: returns the stage's history so far.
    """

    rates: Rates
    head_only: bool = False
    fine_tuning: bool = False
    epochs: int = 1
    step: int = 7
    factor: float = 0.1
    patience: int = 2
    rows: Callable[[], Sequence[Epoch]] = tuple


Schedule = Callable[[StageSettings], Scheduled]

schedules: Registry[Schedule] = Registry("schedule")

MOMENTA = (0.95, 0.85, 0.95)


@schedules.register(
    "one-cycle",
    excludes={"momentum": "schedule: {name} sets the momentum itself; leave momentum out or take another"},
)
def one_cycle(settings: StageSettings) -> Scheduled:
    """One-cycle: cosine warm-up and annealing (Smith 2018), with the settings of fastai's `fine_tune`.

    The warm-up takes 99 % of the stage for the head, else 30 %; it starts at 1/5 of the rate for a pretrained body,
    else at 1/25.
    """
    warmup, div = (0.99, 25.0) if settings.head_only else (0.3, 5.0) if settings.fine_tuning else (0.3, 25.0)
    return {
        "lr": combined_cos(warmup, settings.rates / div, settings.rates, settings.rates / 1e5),
        "mom": combined_cos(warmup, *MOMENTA),
    }


@schedules.register("constant")
def constant(settings: StageSettings) -> Scheduled:
    """Constant rates."""
    return {"lr": SchedNo(settings.rates, settings.rates)}


@schedules.register("triangle")
def triangle(settings: StageSettings) -> Scheduled:
    """Linear from 1/5 of the rates to the rates at 23 % of the stage, then linear to 7 % (Jordan 2024)."""
    warmup, decay = SchedLin(0.2 * settings.rates, settings.rates), SchedLin(settings.rates, 0.07 * settings.rates)
    return {"lr": combine_scheds([0.23, 0.77], [warmup, decay])}


@schedules.register("linear")
def linear(settings: StageSettings) -> Scheduled:
    """Linear from the rates to 0."""
    return {"lr": SchedLin(settings.rates, 0.0 * settings.rates)}


@schedules.register("cosine")
def cosine(settings: StageSettings) -> Scheduled:
    """Cosine annealing from the rates to 0 (Loshchilov & Hutter 2017, without restarts)."""
    return {"lr": SchedCos(settings.rates, 0.0 * settings.rates)}


@schedules.register("step", keys=("step_epochs", "rate_factor"))
def step(settings: StageSettings) -> Scheduled:
    """Rates times `rate_factor` (0.1) after every `step_epochs` (7) epochs, as torch's StepLR."""

    def rates(progress: float) -> Rates:
        # the progress at an epoch's first batch has a rounding error
        reductions = math.floor(progress * settings.epochs / settings.step + 1e-6)
        return settings.rates * settings.factor**reductions

    return {"lr": rates}


@schedules.register("plateau", keys=("rate_factor", "patience"), chosen_on_valid="rates")
def plateau(settings: StageSettings) -> Scheduled:
    """Rates times `rate_factor` (0.1) after more than `patience` epochs without a new lowest validation loss.

    As torch's ReduceLROnPlateau with threshold 0, but a function of the history, so that a resumed run agrees.
    """
    return {"lr": lambda progress: settings.rates * settings.factor ** plateaus(settings.rows(), settings.patience)}
