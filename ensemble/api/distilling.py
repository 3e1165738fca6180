"""Distilling an ensemble into one network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ensemble.api.models import Model
from ensemble.api.plans import TrainingPlan, forecast, note_leaks, plan_jobs
from ensemble.api.source import named_members
from ensemble.api.training import raise_failures, train_jobs
from ensemble.core.errors import DataError, RecipeError
from ensemble.runs.origin import named_run

if TYPE_CHECKING:
    from ensemble.api.workspace import Workspace
    from ensemble.data.dataset import Dataset
    from ensemble.distill.evaluate import Distillation
    from ensemble.distill.teacher import Teacher
    from ensemble.recipe.file import RecipeFile
    from ensemble.recipe.schema import ResolvedRecipe
    from ensemble.runs.run import Run
    from ensemble.training.jobs.plan import Job

    Runs = dict[tuple[str, ...], list[Run]]


@dataclass(frozen=True, repr=False)
class DistilledStudent:
    """A student, the baseline that was trained on labels alone, and how they compare with the ensemble."""

    student: Model
    baseline: Model
    result: Distillation

    def facts(self) -> dict[str, Any]:
        """Everything as plain values."""
        return self.result.facts()

    def sentences(self) -> list[str]:
        """What share of the ensemble's gain the student keeps."""
        return list(self.result.valid.sentences)

    def __repr__(self) -> str:
        return "\n".join([f"DistilledStudent({self.student.id!r})", *self.sentences()])

    def _repr_html_(self) -> str:
        from ensemble.report.html import fragment

        return fragment(self.student.id, self.sentences(), warnings=self.result.notes)


def distill(
    workspace: Workspace,
    ensemble: str | None,
    arch: str | None,
    *,
    temperature: float = 1.0,
    alpha: float = 0.5,
    retry: bool = False,
    **keys: Any,
) -> DistilledStudent:
    """As Project.distill. Raises MembersFailed where student or baseline cannot be trained."""
    from ensemble.distill.evaluate import evaluate_student

    dataset, teacher, students, baselines = _prepared(workspace, ensemble, arch, temperature, alpha, keys)
    jobs = [*students, *baselines]
    forecast(workspace, jobs, dataset)
    members, errors = train_jobs(workspace, jobs, dataset, retry=retry)
    raise_failures(errors, members)
    workspace.listener.note(
        f"{baselines[0].path.name}, the baseline, is a member like any other: `ens combine` may take it"
    )
    student, baseline = Model(workspace, students[0].run), Model(workspace, baselines[0].run)
    return DistilledStudent(student, baseline, evaluate_student(teacher.run, student.run, baseline.run))


def plan_distillation(
    workspace: Workspace,
    ensemble: str | None,
    arch: str | None,
    *,
    temperature: float = 1.0,
    alpha: float = 0.5,
    **keys: Any,
) -> TrainingPlan:
    """What `distill` would train."""
    dataset, _, students, baselines = _prepared(workspace, ensemble, arch, temperature, alpha, keys)
    return plan_jobs(workspace, [*students, *baselines], dataset, {})


def _prepared(
    workspace: Workspace,
    name: str | None,
    arch: str | None,
    temperature: float,
    alpha: float,
    keys: Mapping[str, Any],
) -> tuple[Dataset, Teacher, list[Job], list[Job]]:
    """The data set, the teacher, and the jobs of student and baseline."""
    from ensemble.training.jobs.train import failure, plans

    source = workspace.source
    if source.spec is None:
        raise DataError(f"{source.name}: where its images are is not known; give --data or --recipe")
    file = named_members(workspace.recipe(**keys), (arch,) if arch else (), {**workspace.keys, **keys})
    member = _only_member(file)
    source.announce()
    dataset, teacher = _teacher(workspace, file, name, temperature, alpha)
    students, lacking = plans([member], dataset.fingerprint, workspace.runs_folder, teacher)
    baselines, _ = plans([member], dataset.fingerprint, workspace.runs_folder)
    if lacking:
        raise failure(lacking, 0)
    return dataset, teacher, students, baselines


def _only_member(file: RecipeFile) -> ResolvedRecipe:
    from ensemble.distill.teacher import refuse_unfit_student

    if len(file.members) != 1:
        raise RecipeError(
            f"{file.source} has {len(file.members)} members, one student expected; type --arch mobilenet_v2"
        )
    refuse_unfit_student(file.members[0])
    return file.members[0]


def _teacher(
    workspace: Workspace, file: RecipeFile, name: str | None, temperature: float, alpha: float
) -> tuple[Dataset, Teacher]:
    """The data set, and the ensemble as a teacher of it."""
    from ensemble.combine.candidates import newest_ensemble
    from ensemble.combine.record import other_test
    from ensemble.data.load import tests_of
    from ensemble.distill.teacher import teacher_of
    from ensemble.runs.stale import changes

    named = named_run(workspace.runs_folder, name) if name else None
    dataset = workspace.load(file.data)
    run = named or newest_ensemble(workspace.runs_folder, dataset.fingerprint, file.source)
    if named is None:
        workspace.listener.note(f"the teacher is {run.id}, the newest ensemble of {file.source}")
    teacher, notes = teacher_of(run, dataset, temperature, alpha)
    for change in changes([run], tests_of(dataset)):  # on which ensemble and student would be compared
        raise other_test(run, change, file.data)
    note_leaks(workspace, dataset)
    for line in notes:
        workspace.listener.note(line)
    return dataset, teacher
