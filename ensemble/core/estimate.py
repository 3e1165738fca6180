"""A score with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ensemble.core.table import interval


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval.

    low, high: None, or nan, where the interval is not known or not defined.

    >>> print(Estimate(0.9512, 0.9441, 0.9567))
    0.9512 (95 % interval 0.9441 to 0.9567)
    """

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        bounds = interval(self.low, self.high)
        return f"{self.value:.4f}" + (f" (95 % interval {bounds})" if bounds else "")

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        return f"Estimate({', '.join(f'{key}={_number(value)}' for key, value in vars(self).items())})"

    @classmethod
    def of(cls, score: dict[str, Any]) -> Estimate:
        """From `{value, low, high}`, as metrics.json has it; null is nan for the value and None for the bounds."""
        value = score.get("value")
        return cls(math.nan if value is None else float(value), score.get("low"), score.get("high"))


def _number(value: float | None) -> str:
    return "None" if value is None else f"{value:.4f}"
