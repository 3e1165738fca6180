"""Metrics: what one is, how one is registered, and how one is found by name."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ensemble.core.errors import RecipeError
from ensemble.core.predictions import Floats, Ints, Wide
from ensemble.core.registry import Registry, did_you_mean

Rows = npt.NDArray[Any]
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


def find(name: str, classes: Sequence[str]) -> Metric:
    """The metric that `name` stands for in a data set of these classes (k,).

    A plain name, `<metric>:<class>` for that class against the rest, or several of them joined by `+` for
    their mean, from which those that are nan are left out. A class may itself contain `:` and `+`; a `+` inside
    one splits only where the name of a metric follows, up to its `:`, the next `+` or the end. Raises
    RecipeError for a metric or a class that does not exist, and for a mean of opposite directions.
    """
    listed = [str(one) for one in classes]
    parts = [_found(part, listed) for part in _parts(name)]
    _refuse_opposites(name, parts)
    return parts[0] if len(parts) == 1 else _mean(name, parts)


def check_name(name: str) -> None:
    """All that `find` checks but whether the classes exist. Raises RecipeError."""
    _refuse_opposites(name, [_read(part)[0] for part in _parts(name)])


def _parts(name: str) -> Iterator[str]:
    known = "|".join(map(re.escape, metrics.names()))
    for part in re.split(rf"\+(?=(?:{known})(?:[:+]|\Z))", name):
        # before the colon there is no class yet, so every plus splits
        head, colon, of_class = part.partition(":")
        *plain, last = head.split("+")
        yield from plain
        yield last + colon + of_class


def _read(part: str) -> tuple[Metric, str]:
    """The metric of `part`, and its class or nothing."""
    head, colon, of_class = part.partition(":")
    if not head:
        raise RecipeError("a metric is missing beside a '+' or before a ':'; type a name such as 'accuracy'")
    metric = metrics.get(head)
    if colon and metric.for_class is None:
        able = [f"'{one}:<class>'" for one in metrics.names() if metrics.get(one).for_class]
        raise RecipeError(
            f"the metric {part!r}: {head} has no form for one class; type {head!r} or {' or '.join(able)}"
        )
    if colon and not of_class:
        raise RecipeError(f"the metric {part!r} names no class; type {head!r} or '{head}:<class>'")
    return metric, of_class


def _found(part: str, classes: list[str]) -> Metric:
    metric, of_class = _read(part)
    if not of_class or metric.for_class is None:
        return metric
    if not classes:
        return metrics.get(part)  # which tells what to type where there are no classes
    if of_class not in classes:
        raise RecipeError(f"the metric {part!r}: unknown class {of_class!r}{did_you_mean(of_class, classes)}")
    return replace(metric.for_class(classes.index(of_class)), name=part)


def _refuse_opposites(name: str, parts: Sequence[Metric]) -> None:
    up, down = ([part.name for part in parts if part.higher is higher] for higher in (True, False))
    if up and down:
        raise RecipeError(
            f"the metric {name!r} is a mean of opposites: more is better for {up[0]!r}, less for {down[0]!r};"
            " join only metrics of one direction"
        )


def _mean(name: str, parts: Sequence[Metric]) -> Metric:
    def of(probs: Floats, targets: Ints) -> Rows:
        views = {str(i): part.of(probs, targets) for i, part in enumerate(parts)}
        fields = [(field, view.dtype, view.shape[1:]) for field, view in views.items()]
        packed = np.empty(len(targets), np.dtype(fields, align=True))
        for field, view in views.items():
            packed[field] = view
        return packed

    def summary(views: Rows, targets: Ints) -> float:
        scores = [part.summary(views[str(i)], targets) for i, part in enumerate(parts)]
        decided = [score for score in scores if not math.isnan(score)]
        return sum(decided) / len(decided) if decided else math.nan

    def rows(views: Rows, targets: Ints) -> Wide:
        values = [part.rows(views[str(i)], targets) for i, part in enumerate(parts) if part.rows]
        mean: Wide = np.mean(values, axis=0)
        return mean

    least, most = (
        sum(ends) / len(parts) for ends in zip(*((part.least, part.most) for part in parts), strict=True)
    )
    by_rows = rows if all(part.rows for part in parts) else None
    return Metric(name, parts[0].higher, summary, of, by_rows, least=least, most=most)


def score(probs: Floats, targets: Ints) -> dict[str, float]:
    """Every metric of `probs` (n, k) on `targets` (n,), all known; nothing where n is 0.

    A metric that these rows do not decide (nan) is left out.
    """
    if not len(targets):
        return {}
    views: dict[View, Rows] = {}
    scores = {}
    for metric in map(metrics.get, metrics.names()):
        if metric.of not in views:
            views[metric.of] = metric.of(probs, targets)
        scores[metric.name] = float(metric.summary(views[metric.of], targets))
    return {name: value for name, value in scores.items() if not math.isnan(value)}


def absent(targets: Ints, classes: Sequence[str]) -> list[str]:
    """The classes (k,) that no target (n,) names, in their order: the averages of the metrics are without them."""
    there = set(targets.tolist())
    return [str(name) for c, name in enumerate(classes) if c not in there]
