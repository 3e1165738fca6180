"""The Metric class, the registry of metrics, and the lookup by name."""

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

    view: probabilities (n, k), targets (n,) -> the statistic per row that the score depends on, first axis n;
    computed once and indexed for every bootstrap draw.
    summary: view, targets (n,) -> the score, a float; nan if it is undefined on these rows.
    rows: view, targets (n,) -> float64 (n,), whose mean is the score; None if the score is no mean over rows.
    for_class: class index -> the metric of that class against the rest; None if the metric has no such form.
    least, most: the range of the score, to which intervals are clipped.
    """

    name: str
    higher: bool
    summary: Summary
    view: View
    rows: RowScores | None = None
    for_class: Callable[[int], Metric] | None = None
    least: float = 0.0
    most: float = math.inf

    def __call__(self, probs: Floats, targets: Ints) -> float:
        """The score of `probs` (n, k) on `targets` (n,), n at least 1, every target known."""
        return float(self.summary(self.view(probs, targets), targets))


class Metrics(Registry[Metric]):
    """The metrics by their plain names; `find` also parses `roc_auc:<class>` and means of metrics."""

    def get(self, name: str) -> Metric:
        """The metric called `name`. Raises RecipeError with a suggestion."""
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
    view: View = _probabilities,
    rows: RowScores | None = None,
    for_class: Callable[[int], Metric] | None = None,
    least: float = 0.0,
    most: float | None = None,
) -> Callable[[Summary], Summary]:
    """A decorator that registers a function (probs (n, k), targets (n,)) -> float as the metric `name`.

    name: letters, digits and underscores.  higher: whether greater is better.  view: computes the argument that
    replaces the probabilities, one entry per row.  rows, for_class, least: as in Metric.
    most: as in Metric; the default is 1 if greater is better, otherwise infinity.
    """

    def add(summary: Summary) -> Summary:
        end = (1.0 if higher else math.inf) if most is None else most
        metrics.register(name)(Metric(name, higher, summary, view, rows, for_class, least, end))
        return summary

    return add


def find(name: str, classes: Sequence[str]) -> Metric:
    """The metric called `name` on a data set with these classes (k,).

    name: a plain name, `<metric>:<class>` for that class against the rest, or several of these joined by `+` for
    their mean, which ignores nan. A class name may contain `:` and `+`; a `+` inside one splits only if the name
    of a metric follows, ended by `:`, the next `+` or the end. Raises RecipeError for an unknown metric or class,
    and for a mean of metrics with opposite directions.
    """
    class_names = [str(label) for label in classes]
    parts = [_lookup(part, class_names) for part in _parts(name)]
    _refuse_opposites(name, parts)
    return parts[0] if len(parts) == 1 else _mean(name, parts)


def check_name(name: str) -> None:
    """The checks of `find` that need no class names. Raises RecipeError."""
    _refuse_opposites(name, [_parsed(part)[0] for part in _parts(name)])


def _parts(name: str) -> Iterator[str]:
    known = "|".join(map(re.escape, metrics.names()))
    for part in re.split(rf"\+(?=(?:{known})(?:[:+]|\Z))", name):
        # class names occur only after the colon, so every plus before it splits
        head, colon, of_class = part.partition(":")
        *plain, last = head.split("+")
        yield from plain
        yield last + colon + of_class


def _parsed(part: str) -> tuple[Metric, str]:
    """The plain metric of `part`, and its class name or an empty string."""
    head, colon, of_class = part.partition(":")
    if not head:
        raise RecipeError("a metric is missing beside a '+' or before a ':'; type a name such as 'accuracy'")
    metric = metrics.get(head)
    if colon and metric.for_class is None:
        forms = [f"'{name}:<class>'" for name in metrics.names() if metrics.get(name).for_class]
        raise RecipeError(
            f"the metric {part!r}: {head} has no form for one class; type {head!r} or {' or '.join(forms)}"
        )
    if colon and not of_class:
        raise RecipeError(f"the metric {part!r} names no class; type {head!r} or '{head}:<class>'")
    return metric, of_class


def _lookup(part: str, classes: list[str]) -> Metric:
    metric, of_class = _parsed(part)
    if not of_class or metric.for_class is None:
        return metric
    if not classes:
        return metrics.get(part)  # raises the error for a data set without classes
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
    def packed_views(probs: Floats, targets: Ints) -> Rows:
        views = {str(i): part.view(probs, targets) for i, part in enumerate(parts)}
        fields = [(field, view.dtype, view.shape[1:]) for field, view in views.items()]
        packed = np.empty(len(targets), np.dtype(fields, align=True))
        for field, view in views.items():
            packed[field] = view
        return packed

    def summary(views: Rows, targets: Ints) -> float:
        scores = [part.summary(views[str(i)], targets) for i, part in enumerate(parts)]
        defined = [score for score in scores if not math.isnan(score)]
        return sum(defined) / len(defined) if defined else math.nan

    def rows(views: Rows, targets: Ints) -> Wide:
        values = [part.rows(views[str(i)], targets) for i, part in enumerate(parts) if part.rows]
        mean: Wide = np.mean(values, axis=0)
        return mean

    least, most = (
        sum(ends) / len(parts) for ends in zip(*((part.least, part.most) for part in parts), strict=True)
    )
    by_rows = rows if all(part.rows for part in parts) else None
    return Metric(name, parts[0].higher, summary, packed_views, by_rows, least=least, most=most)


def score(probs: Floats, targets: Ints) -> dict[str, float]:
    """All metrics of `probs` (n, k) on `targets` (n,), all known, by name; empty if n is 0.

    Metrics that are undefined (nan) on these rows are left out.
    """
    if not len(targets):
        return {}
    views: dict[View, Rows] = {}
    scores = {}
    for metric in map(metrics.get, metrics.names()):
        if metric.view not in views:
            views[metric.view] = metric.view(probs, targets)
        scores[metric.name] = float(metric.summary(views[metric.view], targets))
    return {name: value for name, value in scores.items() if not math.isnan(value)}


def absent(targets: Ints, classes: Sequence[str]) -> list[str]:
    """The classes (k,) absent from the targets (n,), in their order; averages over classes leave them out."""
    present = set(targets.tolist())
    return [str(name) for c, name in enumerate(classes) if c not in present]
