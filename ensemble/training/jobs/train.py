"""Training of all members of a command: complete runs are kept, and a failed member does not stop the others."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble.core.errors import EnsError, MembersFailed, MissingWeights, RecipeError, one_line
from ensemble.core.events import Listener
from ensemble.core.registry import Registry
from ensemble.data.dataset import Dataset
from ensemble.data.preprocess import filters, resizes
from ensemble.distill.teacher import Teacher
from ensemble.inference.forward import give_freed_memory_back, keep_freed_memory, views
from ensemble.recipe.architectures import lookup, refuse_unfit
from ensemble.recipe.resolve import as_mapping, training_stages
from ensemble.recipe.schema import Recipe
from ensemble.runs.record import Kind
from ensemble.runs.run import Run, locked
from ensemble.tracking import NullTracker, Tracker, Tracking
from ensemble.training.engine.checkpoint import remove_checkpoint
from ensemble.training.engine.hardware import choose_device, forget_compiled
from ensemble.training.jobs.estimate import RemainingTime
from ensemble.training.jobs.folds import pool_folds, pool_new_tests, pool_students
from ensemble.training.jobs.member import predict_new_tests, train_member
from ensemble.training.jobs.plan import Job, TrainingContext, cache_folder, plan, preprocess_of, view_of
from ensemble.training.methods.augment import mixings, policies
from ensemble.training.methods.averaging import averages
from ensemble.training.methods.losses import losses
from ensemble.training.methods.optimizers import optimizers
from ensemble.training.methods.samplers import samplers
from ensemble.training.methods.schedules import schedules


@dataclass(frozen=True)
class Outcome:
    """Result of one job: `error` is None if its run is complete."""

    job: Job
    error: EnsError | None = None


def check_names(recipes: Sequence[Recipe]) -> None:
    """Raise RecipeError for unknown names and incompatible settings of all members, before anything is trained."""
    problems = [f"{recipe.name}: {problem}" for recipe in recipes for problem in _unknown_names(recipe)]
    if problems:
        raise RecipeError("; ".join(dict.fromkeys(problems)))


def _unknown_names(recipe: Recipe) -> Iterator[RecipeError]:
    names: list[tuple[Registry[Any], str]] = [
        *((policies, part) for part in (recipe.augment or "none").split("+")),
        (samplers, recipe.sampler),
        (mixings, recipe.mixing),
        (resizes, recipe.resize),
        *((filters, name) for name in recipe.preprocess),
        (losses, recipe.loss),
        (optimizers, recipe.optimizer),
        (averages, recipe.average),
        (views, recipe.tta),
        *((schedules, stage.schedule) for stage in training_stages(recipe)),
    ]
    try:
        refuse_unfit(recipe, lookup(recipe.arch), recipe.image_size or 224)
    except RecipeError as error:
        yield error
    if recipe.bias_lr != 1 and recipe.optimizer not in ("sgd", "muon"):
        yield RecipeError(f"bias_lr is for optimizer: sgd or muon, {recipe.optimizer} found; leave it out")
    if recipe.filter_lr != 1 and recipe.optimizer != "muon":
        yield RecipeError(f"filter_lr is for optimizer: muon, {recipe.optimizer} found; leave it out")
    if recipe.momentum is not None and any(stage.schedule == "one-cycle" for stage in training_stages(recipe)):
        yield RecipeError("schedule: one-cycle sets the momentum itself; leave momentum out or take another")
    for registry, name in names:
        try:
            registry.get(name)
        except RecipeError as error:
            yield error


def plans(
    recipes: Sequence[Recipe], fingerprint: str, folder: Path, teacher: Teacher | None = None
) -> tuple[list[Job], dict[str, EnsError]]:
    """Jobs of all recipes without duplicates, and the errors of missing weights by member name.

    teacher: if given, the jobs train students of it.
    """
    check_names(recipes)
    jobs: dict[str, Job] = {}
    errors: dict[str, EnsError] = {}
    for recipe in recipes:
        try:
            if recipe.name not in errors:
                job = plan(recipe, fingerprint, folder, teacher)
                jobs.setdefault(job.hash, job)
        except MissingWeights as error:
            errors[str(recipe.name)] = error
    return list(jobs.values()), errors


def run_of(recipe: Recipe, fingerprint: str, folder: Path) -> Run | None:
    """The complete run of a recipe, or None."""
    try:
        run = plan(recipe, fingerprint, folder).run
    except MissingWeights:
        return None
    return run if run.complete else None


def train(
    jobs: Sequence[Job],
    dataset: Dataset,
    folder: Path,
    *,
    device: str | None,
    retry: bool,
    listener: Listener,
    track: Tracking | None = None,
) -> list[Outcome]:
    """Train the jobs one after another. An error ends its own job and those that need it; the others continue."""
    context = open_context(jobs, dataset, folder, device=device, listener=listener, track=track)
    outcomes = []
    remaining = RemainingTime(jobs)
    for job in jobs:
        if line := remaining.left():
            listener.note(line)
        outcome = train_job(job, context, folder, retry)
        if outcome.error is not None and len(jobs) > 1:
            listener.note(f"{job.path.name} failed, the others go on: {one_line(outcome.error)}")
        remaining.ended(job)
        outcomes.append(outcome)
    return outcomes


def open_context(
    jobs: Sequence[Job],
    dataset: Dataset,
    folder: Path,
    *,
    device: str | None,
    listener: Listener,
    track: Tracking | None = None,
) -> TrainingContext:
    """Build the context that `jobs` share: device, images to decode, tracker."""
    keep_freed_memory()
    unfinished = {preprocess_of(job.recipe) for root in jobs for job in root.all() if not job.run.complete}
    torch_device, stores_folder = choose_device(device), cache_folder(folder)
    tracker: Tracker = track.open(listener.note) if track and jobs else NullTracker()
    return TrainingContext(dataset, torch_device, stores_folder, sorted(unfinished), listener, tracker=tracker)


def train_job(root: Job, context: TrainingContext, folder: Path, retry: bool) -> Outcome:
    """Train a job and all that it needs; an error is returned in the outcome."""
    error: EnsError | None = None
    for job in root.all():
        try:
            if error is None:
                _process(job, context, folder, retry)
        except EnsError as problem:
            error = problem
        except (OSError, RuntimeError, ValueError) as problem:  # errors of torch, such as out of memory
            error = EnsError(f"{type(problem).__name__}: {problem}")
            error.__cause__ = problem
        gc.collect()  # fastai's learners are in reference cycles with their network
        give_freed_memory_back()
        forget_compiled()
    return Outcome(root, error)


def failure(errors: Mapping[str, EnsError], done: int) -> MembersFailed:
    """One error for all failed members; its exit code is that of the errors if they agree, else 1."""
    text = "; ".join(f"{name}: {one_line(error)}" for name, error in errors.items())
    codes = {error.exit_code for error in errors.values()}
    total = len(errors) + done
    summary = MembersFailed(text if total == 1 else f"{len(errors)} of {total} members failed: {text}")
    summary.exit_code = codes.pop() if len(codes) == 1 else 1
    summary.__cause__ = next(iter(errors.values()))
    return summary


def _process(job: Job, context: TrainingContext, folder: Path, retry: bool) -> None:
    with locked(folder, job.path.name):
        for path in job.path.glob(".*.tmp"):  # an incomplete file of a killed process
            path.unlink()
        if job.run.failed:
            if not retry:
                raise EnsError("it failed before (see its failed.json); type --retry to train it again")
            shutil.rmtree(job.path)  # resuming from its checkpoint would fail again
        view = view_of(job, context.dataset)
        if job.run.complete:
            predicted = (pool_new_tests if job.kind is Kind.FOLDS else predict_new_tests)(job, view, context)
            context.listener.note(
                f"{job.path.name} is complete" + (f"; predicted {', '.join(predicted)}" if predicted else "")
            )
            remove_checkpoint(job.path)
        else:
            context.tracker.began(job.path.name, job.hash, job.kind, as_mapping(job.recipe))
            with _reporting_stop(context.tracker):
                _train_or_pool(job, view, context)
        context.tracker.finished(job.run)


def _train_or_pool(job: Job, view: Dataset, context: TrainingContext) -> None:
    if job.kind is Kind.FOLDS:
        pool_folds(job, view)
        return
    if job.kind is Kind.STUDENT and job.parts:
        pool_students(job)
    train_member(job, view, context)


@contextmanager
def _reporting_stop(tracker: Tracker) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        tracker.stopped(isinstance(error, Exception))
        raise
