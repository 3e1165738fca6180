"""What a competition wants to see: one decorated function turns predictions into a sheet.

>>> @submission_format("labels-only")
... def labels_only(predictions, spec): return Sheet(("label",), ...)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ensemble.errors import RecipeError
from ensemble.metrics import labels
from ensemble.predictions import Predictions
from ensemble.registry import Registry, did_you_mean
from ensemble.submit.sheet import Sheet, Spec, columns, numbers

Build = Callable[[Predictions, Spec], Sheet]


@dataclass(frozen=True)
class Format:
    """probabilities: whether a single answer column holds one.  zipped: whether it is always a zip."""

    name: str
    build: Build
    probabilities: Callable[[Spec], bool]
    zipped: bool


formats: Registry[Format] = Registry("submission format")


def _label_as_says(spec: Spec) -> bool:
    return spec.label_as == "probabilities"


def submission_format(
    name: str, *, probabilities: Callable[[Spec], bool] = _label_as_says, zipped: bool = False
) -> Callable[[Build], Build]:
    """A decorator that files a function (predictions, spec) -> Sheet under `name`."""

    def add(build: Build) -> Build:
        formats.register(name)(Format(name, build, probabilities, zipped))
        return build

    return add


def predicted_labels(predictions: Predictions, spec: Spec) -> list[str]:
    """The most probable class of each item, as its name or its index; ties go to the lower index."""
    best = labels(predictions.probs)
    return [str(i) for i in best.tolist()] if spec.label_as == "index" else predictions.classes[best].tolist()


def of_class(predictions: Predictions, name: str, key: str = "positive") -> list[str]:
    """The probability of one class for each item, as text. Raises RecipeError for an unknown class."""
    classes = predictions.classes.tolist()
    if name not in classes:
        raise RecipeError(f"{key}: {name!r} is not a class{did_you_mean(name, classes)}")
    return numbers(predictions.probs[:, classes.index(name)])


@submission_format("kaggle")
def kaggle(predictions: Predictions, spec: Spec) -> Sheet:
    """The id and the label."""
    if spec.label_as == "probabilities":
        raise RecipeError("kaggle holds labels, label_as is probabilities; type --format kaggle-probs")
    rows = columns(predictions.ids.tolist(), predicted_labels(predictions, spec))
    return Sheet((spec.id_column, spec.label_column), rows, spec.header, spec.separator)


@submission_format("kaggle-probs", probabilities=lambda spec: True)
def kaggle_probs(predictions: Predictions, spec: Spec) -> Sheet:
    """The id and a column of probabilities a class, or `label_column` for the `positive` class alone."""
    ids = predictions.ids.tolist()
    if spec.positive is not None:
        rows, header = columns(ids, of_class(predictions, spec.positive)), (spec.id_column, spec.label_column)
    else:
        rows = columns(ids, *(numbers(column) for column in predictions.probs.T))
        header = (spec.id_column, *predictions.classes.tolist())
    return Sheet(header, rows, spec.header, spec.separator)


@submission_format("codabench", zipped=True)
def codabench(predictions: Predictions, spec: Spec) -> Sheet:
    """A flat zip of one file with everything as the recipe says."""
    return (kaggle_probs if spec.label_as == "probabilities" else kaggle)(predictions, spec)
