"""What a call would train, and how long that takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ensemble.api.source import named_members, note_digits
from ensemble.core.errors import EnsError, RecipeError
from ensemble.core.table import Table, seconds_of
from ensemble.runs.record import Kind

if TYPE_CHECKING:
    from ensemble.api.workspace import Workspace
    from ensemble.data.dataset import Dataset
    from ensemble.recipe.file import RecipeFile
    from ensemble.recipe.schema import ResolvedRecipe
    from ensemble.training.jobs.plan import Job


@dataclass(frozen=True)
class PlannedRun:
    """A run that would be trained. seconds: 0 where it is complete, or where that is not known."""

    id: str
    kind: str
    complete: bool
    seconds: float


@dataclass(frozen=True)
class TrainingPlan:
    """What a call of `train` would do.

    errors: by member's name, such as weights that cannot be had.
    """

    runs: tuple[PlannedRun, ...]
    errors: Mapping[str, EnsError]

    @property
    def seconds(self) -> float:
        """Of training and predicting, all together."""
        return sum(run.seconds for run in self.runs)

    def table(self) -> Table:
        """A row for each run."""
        return Table(
            ("run", "kind", "complete", "seconds"),
            [(run.id, run.kind, str(run.complete), run.seconds) for run in self.runs],
        )

    def _repr_html_(self) -> str:
        from ensemble.core.table import duration
        from ensemble.report.html import fragment

        return fragment("Plan", [f"About {duration(self.seconds)} of training and predicting."], self.table())


def chosen_members(
    workspace: Workspace, archs: Sequence[str], seeds: Sequence[int], keys: Mapping[str, Any]
) -> RecipeFile:
    """The architectures that are named, on the recipe's defaults, or all members. Raises RecipeError."""
    overrides = {**keys, **({"seeds": list(seeds)} if seeds else {})}
    return named_members(workspace.recipe(**overrides), archs, {**workspace.keys, **overrides})


def plan(
    workspace: Workspace,
    archs: Sequence[str],
    *,
    seeds: Sequence[int] = (),
    budget: float | str | None = None,
    **keys: Any,
) -> TrainingPlan:
    """As Project.plan. Notes say what training would say of batches; raises what training would of them."""
    file = chosen_members(workspace, archs, seeds, keys)
    note_digits(file, workspace.listener)
    return plan_file(workspace, file, budget=budget)


def plan_file(workspace: Workspace, file: RecipeFile, *, budget: float | str | None = None) -> TrainingPlan:
    """What `train_file` would do."""
    dataset = workspace.load(file.data)
    note_leaks(workspace, dataset)
    return plan_recipes(workspace, file.members, dataset, budget=budget)


def plan_recipes(
    workspace: Workspace, recipes: Sequence[ResolvedRecipe], dataset: Dataset, *, budget: float | str | None = None
) -> TrainingPlan:
    """What `train_recipes` would do."""
    jobs, errors = jobs_within(workspace, recipes, dataset, budget, keep=False)
    return plan_jobs(workspace, jobs, dataset, errors)


def plan_jobs(
    workspace: Workspace, jobs: Sequence[Job], dataset: Dataset, errors: Mapping[str, EnsError]
) -> TrainingPlan:
    """The estimate of every job, and notes on batches. Raises what training would of them."""
    runs = forecast(workspace, jobs, dataset)
    _note_batches(workspace, jobs, dataset)
    return TrainingPlan(tuple(runs), errors)


def note_leaks(workspace: Workspace, dataset: Dataset) -> None:
    """A note where images of valid or test are in train too."""
    from ensemble.data.leaks import leaks_for_training, warning

    if line := warning(leaks_for_training(dataset, workspace.runs_folder), dataset):
        workspace.listener.note(line)


def jobs_within(
    workspace: Workspace,
    recipes: Sequence[ResolvedRecipe],
    dataset: Dataset,
    budget: float | str | None,
    *,
    keep: bool,
) -> tuple[list[Job], dict[str, EnsError]]:
    """The jobs of the recipes that fit into a budget, and errors by member's name. keep: what the budget chose."""
    # after the data is known to be good: torch takes seconds to import
    from ensemble.training.jobs.train import plans

    jobs, errors = plans(recipes, dataset.fingerprint, workspace.runs_folder)
    if budget is None:
        return jobs, errors
    try:
        seconds = seconds_of(budget) if isinstance(budget, str) else float(budget)
    except ValueError as error:
        raise RecipeError(f"budget: {error}") from None
    planned = [recipe for recipe in recipes if recipe.name not in errors]
    jobs, _ = plans(
        _within(workspace, planned, dataset, seconds, keep=keep), dataset.fingerprint, workspace.runs_folder
    )
    return jobs, errors


def _within(
    workspace: Workspace, recipes: list[ResolvedRecipe], dataset: Dataset, seconds: float, *, keep: bool
) -> list[ResolvedRecipe]:
    """Those of `recipes` that fit into so many seconds, with the epochs that they then have."""
    from ensemble.training.engine.hardware import choose_device
    from ensemble.training.jobs.estimate import fit_to_budget, format_duration

    device = choose_device(workspace.device)
    members, choice = fit_to_budget(recipes, dataset, workspace.runs_folder, device, seconds, keep=keep)
    short = [share for share in choice.shares.values() if share < 1]
    epochs = f", {len(short)} of them with {100 * short[0]:.0f} % of the epochs" if short else ""
    workspace.listener.note(f"{len(members)} of {len(recipes)} members fit into {format_duration(seconds)}{epochs}")
    return members


def _each_job(jobs: Sequence[Job]) -> list[Job]:
    """The jobs and what they need, each once."""
    return list({part.hash: part for top in jobs for part in top.all()}.values())


def _note_batches(workspace: Workspace, jobs: Sequence[Job], dataset: Dataset) -> None:
    """What training will say of batches that are smaller than a recipe asks for. Raises what training would."""
    from ensemble.training.jobs.plan import view_of
    from ensemble.training.methods.samplers import smaller_batch

    for job in _each_job(jobs):
        if job.kind is not Kind.FOLDS and not job.run.complete:
            view = view_of(job, dataset)
            if why := smaller_batch(job.recipe, view.splits["train"].targets, len(view.classes)):
                workspace.listener.note(f"{job.path.name}: {why}")


def forecast(workspace: Workspace, jobs: Sequence[Job], dataset: Dataset) -> list[PlannedRun]:
    """The estimate of every run; a note says the sum."""
    from ensemble.training.engine.hardware import choose_device
    from ensemble.training.jobs.estimate import Forecast, format_duration

    forecast = Forecast(dataset, choose_device(workspace.device))
    runs = []
    for job in _each_job(jobs):
        try:
            seconds = forecast.seconds_of_run(job)
        except (EnsError, OSError, RuntimeError, ValueError, MemoryError):  # training it will say what is wrong
            seconds = 0.0
        runs.append(PlannedRun(job.path.name, job.kind, job.run.complete, seconds))
    if total := sum(run.seconds for run in runs):
        workspace.listener.note(f"about {format_duration(total)} of training and predicting")
    return runs
