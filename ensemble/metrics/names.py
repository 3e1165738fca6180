"""A metric by what a person types: `accuracy`, `roc_auc:melanoma`, `roc_auc:melanoma+roc_auc:nevus`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ensemble.errors import RecipeError
from ensemble.metrics.base import Metric, Rows, Wide, metrics
from ensemble.predictions import Floats, Ints
from ensemble.registry import did_you_mean


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
