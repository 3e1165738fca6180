"""From recipes to runs: which directory each member, fold and refit has, and what stands there already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ensemble.architectures import architectures
from ensemble.data.dataset import Dataset
from ensemble.data.load import fold_of, refit_of
from ensemble.errors import DataError
from ensemble.models.weights import WeightsFile, locate_weights
from ensemble.recipe.resolve import run_hash
from ensemble.recipe.schema import Recipe
from ensemble.runs.run import Run, all_runs


@dataclass(frozen=True)
class Job:
    """One run to be made.

    kind: member, folds or refit.  hash: the full sha256.  weights: the initial weights, None from scratch.
    parts: the fold members of a `folds` run, or the member that justifies a `refit`; they come first.
    """

    recipe: Recipe
    kind: str
    hash: str
    path: Path
    weights: WeightsFile | None
    parts: tuple[Job, ...] = ()

    @property
    def run(self) -> Run:
        """The run that this job makes, there or not."""
        return Run(self.path)

    def all(self) -> Iterator[Job]:
        """This job and what it needs, in the order in which they are trained."""
        for part in self.parts:
            yield from part.all()
        yield self


def plan(recipe: Recipe, fingerprint: str, folder: Path) -> Job:
    """The job of one resolved recipe. Raises RecipeError or MissingWeights."""
    if recipe.arch in architectures:
        architectures.get(recipe.arch)
    assert recipe.weights is not None and recipe.name is not None
    weights = locate_weights(recipe.arch, recipe.weights)

    def job(recipe: Recipe, kind: str, name: str, parts: tuple[Job, ...] = ()) -> Job:
        full_hash = run_hash(recipe, fingerprint, weights.sha256 if weights else None)
        return Job(recipe, kind, full_hash, _path(folder, name, full_hash), weights, parts)

    if recipe.full:
        parent = job(recipe.model_copy(update={"full": False}), "member", recipe.name)
        return job(recipe, "refit", f"{recipe.name}-full", (parent,))
    if recipe.folds and recipe.fold is None:
        folds = range(recipe.folds)
        parts = tuple(
            job(recipe.model_copy(update={"fold": fold}), "member", f"{recipe.name}-fold{fold}") for fold in folds
        )
        return job(recipe, "folds", recipe.name, parts)
    return job(recipe, "member", recipe.name)


def _path(folder: Path, name: str, full_hash: str) -> Path:
    """The run's directory; a run that was made under another name is the same run."""
    suffix = f"-{full_hash[:8]}"
    same = [run.path for run in all_runs(folder) if run.id.endswith(suffix) and run.facts.get("hash") == full_hash]
    return same[0] if same else folder / f"{name}{suffix}"


def view_of(job: Job, dataset: Dataset) -> Dataset:
    """The data set as this job sees it."""
    if job.kind == "refit":
        return refit_of(dataset)
    if job.recipe.folds is None:
        if "valid" not in dataset.splits:
            raise DataError("the data set has no validation rows; set data.valid to a folder, a CSV or a fraction")
        return dataset
    if job.kind == "folds":
        return replace(dataset)
    assert job.recipe.fold is not None
    return fold_of(dataset, job.recipe.folds, job.recipe.fold, job.recipe.data.split_seed)
