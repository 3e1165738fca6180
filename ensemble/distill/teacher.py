"""An ensemble as a teacher: soft labels from its out-of-fold probabilities of the training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ensemble.combine.candidates import leaves
from ensemble.core.errors import DataError, MismatchedRuns, RecipeError, first_few
from ensemble.core.predictions import Floats, Predictions, Texts, align, sha256_of
from ensemble.data.dataset import Dataset, pooled
from ensemble.recipe.contradictions import contradictions
from ensemble.recipe.schema import ResolvedRecipe
from ensemble.runs.run import Run


@dataclass(frozen=True)
class Teacher:
    """An ensemble and its out-of-fold predictions of every row of train and valid.

    rows: these predictions.  temperature: T, applied to them and to the student's logits.
    alpha: the weight of the soft labels in the loss; that of the labels is 1 - alpha.
    """

    run: Run
    rows: Predictions
    temperature: float
    alpha: float

    @cached_property
    def sha256(self) -> str:
        """The hash of the rows' probabilities, ids and classes, independent of their order."""
        return sha256_of(self.rows, with_probs=True)

    def hashed(self) -> dict[str, Any]:
        """The values that determine a student's result."""
        return {"labels": self.sha256, "temperature": self.temperature, "alpha": self.alpha}

    def with_soft_labels(self, dataset: Dataset) -> Dataset:
        """The data set with soft labels for its training rows. Raises DataError as `rows_of` does."""
        train = dataset.splits["train"]
        soft_labels = softened(rows_of(self.rows, train.ids, dataset.classes).probs, self.temperature)
        return replace(dataset, splits={**dataset.splits, "train": replace(train, teacher_probs=soft_labels)})


def softened(probs: Floats, temperature: float) -> npt.NDArray[np.float32]:
    """float32 (n, k): the softmax of log(probs) / temperature, for probs (n, k)."""
    wide = probs.astype(np.float64) ** (1 / temperature)
    soft: npt.NDArray[np.float32] = (wide / wide.sum(axis=1, keepdims=True)).astype(np.float32)
    return soft


def rows_of(predictions: Predictions, ids: Texts, classes: Texts) -> Predictions:
    """The rows with these ids, in that order, columns in the order of `classes`.

    Raises DataError for a missing id, MismatchedRuns for other classes.
    """
    row_by_id = {name: row for row, name in enumerate(predictions.ids.tolist())}
    missing = [name for name in ids.tolist() if name not in row_by_id]
    if missing:
        raise DataError(f"{predictions.source} has no row for {first_few(missing)}")
    rows = np.array([row_by_id[name] for name in ids.tolist()], np.int64)
    selected = replace(
        predictions,
        ids=predictions.ids[rows],
        probs=predictions.probs[rows],
        targets=None if predictions.targets is None else predictions.targets[rows],
        groups=None if predictions.groups is None else predictions.groups[rows],
    )
    return align(selected, ids, classes)


def teacher_of(run: Run, dataset: Dataset, temperature: float, alpha: float) -> tuple[Teacher, list[str]]:
    """`run` as a teacher for the training rows of `dataset`, and notes on what cannot be verified.

    Raises MismatchedRuns for an ensemble of other data, DataError for one without out-of-fold predictions of the
    training rows, RecipeError for a temperature or an alpha out of range.
    """
    if not temperature > 0 or not 0 < alpha <= 1:
        raise RecipeError(
            f"temperature {temperature:g} and alpha {alpha:g} found, a temperature above 0 and an alpha above 0, up"
            " to 1, expected (with alpha 0 nothing is taught)"
        )
    if not run.is_ensemble:
        raise DataError(f"{run.id} is a {run.kind}, an ensemble expected; type `ens combine` first")
    if run.fingerprint != dataset.fingerprint:
        raise MismatchedRuns(
            f"{run.id} is of other data ({run.fingerprint[:8]}, here {dataset.fingerprint[:8]}); name its recipe or"
            " its data, or another ensemble"
        )
    members, _ = leaves([run])
    _refuse_fitted(run, members)
    pool = pooled(dataset)
    known = set(run.predictions("valid").ids.tolist())
    missing = [name for name in pool.ids.tolist() if name not in known]
    if missing:
        raise DataError(
            f"{run.id} has no out-of-fold predictions of {len(missing)} of the {len(pool)} rows to learn from"
            f" ({first_few(missing, 3)}); {_HOW}, or import such predictions of every row"
        )
    rows = rows_of(run.predictions("valid"), np.sort(pool.ids), dataset.classes)
    imported = [member.id for member in members if member.is_import]
    note = f"{first_few(imported)}: imported; that it is out-of-fold is taken on trust"
    return Teacher(run, rows, float(temperature), float(alpha)), [note] if imported else []


_HOW = "train its members with --folds (`ens train --folds 5`) and combine those"


def _refuse_fitted(run: Run, members: Sequence[Run]) -> None:
    """Raises DataError if a member predicts only the validation rows, or rows that it was trained on."""
    single = [member.id for member in members if not member.is_import and not member.pools_folds]
    if single:
        raise DataError(
            f"{run.id}: {first_few(single)} predicted the validation rows alone, and a student learns from"
            f" out-of-fold predictions of the training rows; {_HOW}"
        )


def refuse_unfit_student(recipe: ResolvedRecipe) -> None:
    """Raises RecipeError for recipe keys that are undefined for soft labels or conflict with a student."""
    problems = []
    if recipe.class_weights != "none":
        problems.append("class_weights: a teacher's probabilities have classes of their own weight; use a sampler")
    if recipe.loss != "cross-entropy":
        problems.append(f"loss: {recipe.loss} has no meaning for a teacher's probabilities; leave it out")
    if recipe.full:
        problems.append("full: a student of folds is trained on all rows anyway; leave it out")
    if recipe.fold is not None:
        problems.append("fold: leave it out; every fold has its student")
    if recipe.folds and not problems:
        problems += contradictions(recipe.model_copy(update={"folds": None, "full": True}))
    if problems:
        raise RecipeError(f"{recipe.name}: {'; '.join(problems)}")
