"""Option types that click lacks."""

from __future__ import annotations

import math
import os
import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    NumberType = click.ParamType[float]
else:
    NumberType = click.ParamType  # generic for type checkers alone in some releases of click


class FiniteFloat(NumberType):
    """A number within bounds. click's own FloatRange lets `nan` through, as `nan < 0` is false."""

    name = "number"

    def __init__(self, low: float = -math.inf, high: float = math.inf) -> None:
        self.low, self.high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """`value` as a float, or a usage error that says what was expected."""
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number", param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        if not self.low <= number <= self.high:
            self.fail(f"{value!r} is not {self._bounds()}", param, ctx)
        return number

    def _bounds(self) -> str:
        if math.isinf(self.high):
            return f"{self.low:g} or more"
        return f"{self.high:g} or less" if math.isinf(self.low) else f"from {self.low:g} to {self.high:g}"


if TYPE_CHECKING:
    PathType = click.Path[Any]
else:
    PathType = click.Path


class HomePath(PathType):
    """A path in which `~` is the home folder: shells write it out in `--data ~/x`, not in `--data=~/x`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, as click's own type has it."""
        if isinstance(value, str) and value.startswith("~"):
            value = os.path.expanduser(value)  # noqa: PTH111 — Path would change how the rest is spelled
        return super().convert(value, param, ctx)


finite_float = FiniteFloat()
share = FiniteFloat(0, 1)


class Duration(NumberType):
    """A time such as `45s`, `90m`, `2h` or `1h30m`, in seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds, or a usage error that says what was expected."""
        found = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", str(value).strip())
        seconds = 0.0
        if found:
            seconds = sum(float(part or 0) * unit for part, unit in zip(found.groups(), (3600, 60, 1), strict=True))
        if seconds <= 0:
            self.fail(f"{value!r} is not a time; 45s, 90m, 2h or 1h30m is expected", param, ctx)
        return seconds
