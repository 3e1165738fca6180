"""Training of all members of a command: complete runs are kept, and a failed member does not stop the others."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ensemble.core.errors import EnsError, MembersFailed, MissingWeights, RecipeError, one_line
from ensemble.core.events import Listener
from ensemble.data.dataset import Dataset
from ensemble.data.preprocess import preprocess_of
from ensemble.distill.teacher import Teacher
from ensemble.inference.forward import give_freed_memory_back, keep_freed_memory
from ensemble.recipe import methods
from ensemble.recipe.architectures import lookup, refuse_unfit
from ensemble.recipe.resolve import as_mapping
from ensemble.recipe.schema import ResolvedRecipe
from ensemble.runs.record import Kind
from ensemble.runs.run import Run, locked
from ensemble.tracking import NullTracker, Tracker, Tracking
from ensemble.training.engine.checkpoint import remove_checkpoint
from ensemble.training.engine.hardware import choose_device, forget_compiled
from ensemble.training.jobs.estimate import RemainingTime
from ensemble.training.jobs.folds import pool_folds, pool_new_tests, pool_students
from ensemble.training.jobs.member import predict_new_tests, train_member
from ensemble.training.jobs.plan import Job, TrainingContext, cache_folder, plan, view_of


@dataclass(frozen=True)
class Outcome:
    """Result of one job: `error` is None if its run is complete."""

    job: Job
    error: EnsError | None = None


def refuse_unfit_recipes(recipes: Sequence[ResolvedRecipe], teacher: Teacher | None) -> None:
    """Raise RecipeError for unknown names and incompatible settings of all members, before anything is trained."""
    problems = []
    for recipe in recipes:
        try:
            refuse_unfit(recipe, lookup(recipe.arch), recipe.image_size)
        except RecipeError as error:
            problems.append(f"{recipe.name}: {error}")
        # a student with folds is one network of all rows, which leaves none to decide by
        all_rows = teacher is not None and recipe.folds
        trained = recipe.model_copy(update={"folds": None, "full": True}) if all_rows else recipe
        problems += [f"{recipe.name}: {problem}" for problem in methods.problems(trained)]
    if problems:
        raise RecipeError("; ".join(dict.fromkeys(problems)))


def plans(
    recipes: Sequence[ResolvedRecipe], fingerprint: str, folder: Path, teacher: Teacher | None = None
) -> tuple[list[Job], dict[str, EnsError]]:
    """Jobs of all recipes without duplicates, and the errors of missing weights by member name.

    teacher: if given, the jobs train students of it.
    """
    refuse_unfit_recipes(recipes, teacher)
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


def run_of(recipe: ResolvedRecipe, fingerprint: str, folder: Path) -> Run | None:
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
