"""A score with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ensemble.core.table import interval

_INTERVAL = "95 % interval "


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

    @property
    def bounds(self) -> str:
        """`0.9441 to 0.9567`; empty where they are not known or not defined."""
        return interval(self.low, self.high)

    @property
    def signed(self) -> str:
        """`+0.0041 to +0.0167`, for a difference."""
        return self.interval("+.4f").removeprefix(_INTERVAL)

    def interval(self, spec: str = ".4f", factor: float = 1.0) -> str:
        """`95 % interval 0.9441 to 0.9567`; empty where it is not known. spec: format of `factor` times a bound."""
        if not self.bounds:
            return ""
        low, high = (format(factor * (bound or 0.0), spec) for bound in (self.low, self.high))
        return f"{_INTERVAL}{low} to {high}"

    def __str__(self) -> str:
        known = self.interval()
        return f"{self.value:.4f}" + (f" ({known})" if known else "")

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
