"""Rows for items that nobody could predict, such as a test image that cannot be read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ensemble.data.names import nfc
from ensemble.errors import DataError, RecipeError
from ensemble.predictions import Floats, Predictions, align
from ensemble.registry import did_you_mean
from ensemble.runs.run import Run

UNIFORM, PRIOR = "uniform", "prior"


@dataclass(frozen=True)
class Fill:
    """What missing rows hold. how: as it was asked for.  probs: float32 (k,), classes in the predictions' order.

    source: where `prior` has the shares from, or empty.
    """

    how: str
    probs: Floats
    source: str = ""

    def facts(self, ids: list[str]) -> dict[str, Any]:
        """For the sidecar."""
        source = {"from": self.source} if self.source else {}
        return {"with": self.how, **source, "probs": self.probs.tolist(), "rows": len(ids), "ids": ids}


def fill_of(how: str, run: Run, predictions: Predictions) -> Fill:
    """`uniform`, `prior` or the name of a class. Raises RecipeError for another, DataError for an unknown prior.

    A class called `uniform` or `prior` is that class. prior: the shares of the classes among the labelled
    validation rows of `run`, else, as of a refit, among the training images that it records.
    """
    classes = predictions.classes.tolist()
    name = nfc(how.strip())
    if name in classes:
        return Fill(name, np.eye(len(classes), dtype=np.float32)[classes.index(name)])
    if name == UNIFORM:
        return Fill(name, np.full(len(classes), 1 / len(classes), np.float32))
    if name == PRIOR:
        counts, source = _counts(run, predictions)
        return Fill(name, (counts / counts.sum()).astype(np.float32), source)
    known = (UNIFORM, PRIOR, *classes)
    raise RecipeError(f"--fill {how!r} found; uniform, prior or a class expected{did_you_mean(name, known)}")


def _counts(run: Run, predictions: Predictions) -> tuple[Floats, str]:
    """How many images of each class, float64 (k,), and of what."""
    classes = predictions.classes
    if run.has("valid"):
        valid = run.predictions("valid")
        valid = align(valid, valid.ids, classes)
        if valid.targets is not None:
            counted = np.bincount(valid.targets[valid.labelled], minlength=len(classes))
            return counted.astype(np.float64), f"the labelled validation rows of {run.id}"
    counts, names = (run.facts.get("shown") or {}).get("before"), run.facts.get("classes") or []
    if counts and len(counts) == len(names) and set(names) == set(classes.tolist()):
        by_class: dict[str, int] = dict(zip(names, counts, strict=True))
        ordered = np.array([by_class[name] for name in classes.tolist()], np.float64)
        return ordered, f"the training images of {run.id}"
    raise DataError(
        f"--fill prior: {run.id} knows neither labels of validation rows nor of training images; type"
        " --fill uniform, or a class"
    )


def filled(predictions: Predictions, missing: list[str], fill: Fill) -> Predictions:
    """`predictions` with a row for each id of `missing`, in the order of ids where they are in it; no targets."""
    if not missing:
        return predictions
    ids = np.concatenate([predictions.ids, np.array(missing, dtype=np.str_)])
    probs = np.concatenate([predictions.probs, np.repeat(fill.probs[None], len(missing), axis=0)])
    before = predictions.ids.tolist()
    order = np.argsort(ids, kind="stable") if before == sorted(before) else np.arange(len(ids))
    return replace(predictions, ids=ids[order], probs=probs[order], targets=None, groups=None)
