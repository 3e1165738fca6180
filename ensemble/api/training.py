"""Training members."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ensemble.api.models import Model
from ensemble.api.plans import chosen_members, forecast, jobs_within, note_leaks
from ensemble.api.source import note_digits
from ensemble.core.errors import EnsError
from ensemble.core.table import Table

if TYPE_CHECKING:
    from ensemble.api.workspace import Workspace
    from ensemble.data.dataset import Dataset
    from ensemble.recipe.file import RecipeFile
    from ensemble.recipe.schema import ResolvedRecipe
    from ensemble.training.jobs.plan import Job


@dataclass(frozen=True, repr=False)
class Members(Sequence[Model]):
    """The complete runs of a call of `train`, in the order of the recipe. recipes: that of each."""

    models: tuple[Model, ...]
    recipes: tuple[ResolvedRecipe, ...] = ()

    def __len__(self) -> int:
        return len(self.models)

    def __getitem__(self, place: Any) -> Any:
        return self.models[place]

    def __iter__(self) -> Iterator[Model]:
        return iter(self.models)

    def facts(self) -> list[dict[str, Any]]:
        """The id, the kind and the scores of each."""
        return [{"run": model.id, "kind": model.kind, **model.metrics} for model in self.models]

    def table(self) -> Table:
        """A row for each: its id, its kind, its architecture and its validation accuracy."""
        rows = [
            (model.id, model.kind, model.run.arch, (model.metrics.get("valid") or {}).get("accuracy"))
            for model in self.models
        ]
        return Table(("run", "kind", "arch", "accuracy"), rows)

    def __repr__(self) -> str:
        return self.table().text() if self.models else "Members()"

    def _repr_html_(self) -> str:
        from ensemble.report.html import fragment

        notes = [f"{model.id}: {line}" for model in self.models for line in model.warnings]
        return fragment("Members", [], self.table(), notes)


def train(
    workspace: Workspace,
    archs: Sequence[str],
    *,
    seeds: Sequence[int] = (),
    budget: float | str | None = None,
    retry: bool = False,
    **keys: Any,
) -> Members:
    """As Project.train."""
    file = chosen_members(workspace, archs, seeds, keys)
    note_digits(file, workspace.listener)
    with workspace.listener:
        return train_file(workspace, file, budget=budget, retry=retry)


def train_file(
    workspace: Workspace, file: RecipeFile, *, budget: float | str | None = None, retry: bool = False
) -> Members:
    """Train every member of `file`. Raises MembersFailed once the others are trained."""
    dataset = workspace.load(file.data, recipes=file.members)
    note_leaks(workspace, dataset)
    return train_recipes(workspace, file.members, dataset, budget=budget, retry=retry)


def train_recipes(
    workspace: Workspace,
    recipes: Sequence[ResolvedRecipe],
    dataset: Dataset,
    *,
    budget: float | str | None = None,
    retry: bool = False,
) -> Members:
    """Train `recipes`. Raises MembersFailed once the others are trained."""
    jobs, errors = jobs_within(workspace, recipes, dataset, budget, keep=True)
    forecast(workspace, jobs, dataset)
    members, failed = train_jobs(workspace, jobs, dataset, retry=retry)
    raise_failures(errors | failed, members)
    return members


def train_jobs(
    workspace: Workspace, jobs: Sequence[Job], dataset: Dataset, *, retry: bool = False
) -> tuple[Members, dict[str, EnsError]]:
    """Train planned jobs: the runs that are complete, and the errors of the others by run id."""
    from ensemble.training.jobs.parallel import train_all

    with workspace.listener as listener:
        outcomes = train_all(
            jobs,
            dataset,
            workspace.runs_folder,
            workers=workspace.jobs,
            device=workspace.device,
            retry=retry,
            listener=listener,
            track=workspace.track,
        )
    done = [outcome.job for outcome in outcomes if outcome.error is None]
    return Members(tuple(Model(workspace, job.run) for job in done), tuple(job.recipe for job in done)), {
        outcome.job.path.name: outcome.error for outcome in outcomes if outcome.error is not None
    }


def raise_failures(errors: Mapping[str, EnsError], members: Members) -> None:
    """Raise one MembersFailed for all errors, where there are any."""
    if errors:
        from ensemble.training.jobs.train import failure

        error = failure(errors, len(members))
        error.members = members
        raise error
