"""What a metric is, and where a decorated function becomes one."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ensemble.errors import RecipeError
from ensemble.predictions import Floats, Ints
from ensemble.registry import Registry

Rows = npt.NDArray[Any]
Wide = npt.NDArray[np.float64]
Summary = Callable[[Rows, Ints], float]
View = Callable[[Floats, Ints], Rows]
RowScores = Callable[[Rows, Ints], Wide]


@dataclass(frozen=True)
class Metric:
    """A score and its direction.

    of: what it looks at in (n, k) probabilities, one entry a row; computed once, however often rows are
    drawn.
    summary: that and targets (n,) -> a float; nan where the rows do not decide it.
    rows: that and targets (n,) -> float64 (n,), whose mean is the score; None where it is no mean over rows.
    for_class: an index into the classes -> the same score of that class against the rest; None where there
    is none.
    least, most: what the score can be, so that no interval leaves that.
    """

    name: str
    higher: bool
    summary: Summary
    of: View
    rows: RowScores | None = None
    for_class: Callable[[int], Metric] | None = None
    least: float = 0.0
    most: float = math.inf

    def __call__(self, probs: Floats, targets: Ints) -> float:
        """The score of `probs` (n, k) on `targets` (n,), n at least 1, every target known."""
        return float(self.summary(self.of(probs, targets), targets))


class Metrics(Registry[Metric]):
    """The metrics by their plain names; `find` also reads `roc_auc:<class>` and means."""

    def get(self, name: str) -> Metric:
        """The metric called `name`. Raises RecipeError that says what to type."""
        head = re.split("[:+]", name)[0]
        if head in self and head != name:
            raise RecipeError(
                f"the metric {name!r} is told from the class names of a data set, and there are none here;"
                f" type {head!r}"
            )
        return super().get(name)


metrics = Metrics("metric")


def _probabilities(probs: Floats, targets: Ints) -> Rows:
    return probs


def metric(
    name: str,
    *,
    higher: bool = True,
    of: View = _probabilities,
    rows: RowScores | None = None,
    for_class: Callable[[int], Metric] | None = None,
    least: float = 0.0,
    most: float | None = None,
) -> Callable[[Summary], Summary]:
    """A decorator that files a function (probs (n, k), targets (n,)) -> float under `name`.

    name: letters, digits and underscores.  higher: whether more is better.  of: what to hand over in place of
    the probabilities, one entry a row.  rows, for_class, least: as in Metric.
    most: as in Metric; 1 where more is better, else without an end.
    """

    def add(summary: Summary) -> Summary:
        end = (1.0 if higher else math.inf) if most is None else most
        metrics.register(name)(Metric(name, higher, summary, of, rows, for_class, least, end))
        return summary

    return add
