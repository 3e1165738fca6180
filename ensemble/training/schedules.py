"""Learning-rate schedules by name: a schedule gives the hyper-parameters as functions of the stage's progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from fastai.callback.schedule import SchedLin, SchedNo, combine_scheds, combined_cos

from ensemble.registry import Registry

Rates = npt.NDArray[np.float64]
Scheduled = dict[str, Callable[[float], Any]]
Schedule = Callable[[Rates, bool, bool], Scheduled]

schedules: Registry[Schedule] = Registry("schedule")

MOMENTA = (0.95, 0.85, 0.95)


@schedules.register("one-cycle")
def one_cycle(rates: Rates, head_only: bool, fine_tuning: bool) -> Scheduled:
    """Up and down again by cosines (Smith 2018), with the proportions of fastai's `fine_tune`.

    rates: the highest rate of each parameter group. The head warms up nearly all the way (0.99), everything
    that was pretrained starts from a fifth, a network from scratch from a twenty-fifth.
    """
    start, div = (0.99, 25.0) if head_only else (0.3, 5.0) if fine_tuning else (0.3, 25.0)
    return {
        "lr": combined_cos(start, rates / div, rates, rates / 1e5),
        "mom": combined_cos(start, *MOMENTA),
    }


@schedules.register("constant")
def constant(rates: Rates, head_only: bool, fine_tuning: bool) -> Scheduled:
    """The same rates from the first batch to the last."""
    return {"lr": SchedNo(rates, rates)}


@schedules.register("triangle")
def triangle(rates: Rates, head_only: bool, fine_tuning: bool) -> Scheduled:
    """In straight lines from a fifth of the rates up to them after 23 %, and down to 7 % (Jordan 2024)."""
    return {"lr": combine_scheds([0.23, 0.77], [SchedLin(0.2 * rates, rates), SchedLin(rates, 0.07 * rates)])}


@schedules.register("linear")
def linear(rates: Rates, head_only: bool, fine_tuning: bool) -> Scheduled:
    """In a straight line from the rates down to nothing."""
    return {"lr": SchedLin(rates, 0.0 * rates)}
