"""Sweeps over recipe keys, and the distillation of an ensemble into one network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ensemble.api.models import Model
from ensemble.api.source import named_members, note_digits
from ensemble.api.training import (
    TrainingPlan,
    forecast,
    note_leaks,
    plan_jobs,
    plan_recipes,
    raise_failures,
    train_jobs,
    train_recipes,
)
from ensemble.core.errors import DataError, EnsError, MembersFailed, RecipeError, one_line
from ensemble.runs.origin import named_run

if TYPE_CHECKING:
    from ensemble.api.workspace import Workspace
    from ensemble.data.dataset import Dataset
    from ensemble.distill.evaluate import Distillation
    from ensemble.distill.teacher import Teacher
    from ensemble.recipe.file import RecipeFile
    from ensemble.recipe.schema import Recipe, SweepSpec
    from ensemble.recipe.trials import Grid
    from ensemble.report.sections.sweeps import TrialTable
    from ensemble.report.sweep import SweepTable
    from ensemble.runs.run import Run
    from ensemble.training.jobs.plan import Job

    Runs = dict[tuple[str, ...], list[Run]]


@dataclass(frozen=True, repr=False)
class Sweep:
    """The table of a sweep's cells, or of a search's trials. folder: where it was written."""

    result: SweepTable | TrialTable
    folder: Path
    written: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Everything as plain values."""
        return self.result.facts()

    def markdown(self) -> str:
        """The table as Markdown, with the best cell in bold."""
        return self.result.markdown()

    def best(self) -> tuple[str, ...]:
        """The ids of the best cell's runs; empty for a search."""
        from ensemble.report.sweep import SweepTable

        return tuple(self.result.best.runs) if isinstance(self.result, SweepTable) else ()

    def frame(self) -> Any:
        """The table as a pandas DataFrame."""
        import io

        from pandas import read_csv

        return read_csv(io.StringIO(self.result.csv()))

    def __repr__(self) -> str:
        return self.markdown()

    def _repr_html_(self) -> str:
        from ensemble.report.fragments import fragment

        return fragment("Sweep", [], preformatted=self.markdown())


def sweep(
    workspace: Workspace,
    *,
    grid: Mapping[str, Sequence[Any]] | None = None,
    search: Mapping[str, Sequence[Any]] | None = None,
    trials: int | None = None,
    metric: str | None = None,
    seeds: Sequence[int] = (),
    retry: bool = False,
    out: Path | None = None,
    **keys: Any,
) -> Sweep:
    """As Project.sweep. Raises MembersFailed after the table of the others is written; its `sweep` is that."""
    asked = _Sweep.of(workspace, grid, search, trials, metric, seeds, keys)
    folder = out or workspace.runs_folder / "sweeps" / asked.name()
    with workspace.listener:
        return _search(asked, folder, retry) if asked.spec.search else _grid(asked, folder, retry)


def plan_sweep(
    workspace: Workspace,
    *,
    grid: Mapping[str, Sequence[Any]] | None = None,
    search: Mapping[str, Sequence[Any]] | None = None,
    seeds: Sequence[int] = (),
    metric: str | None = None,
    trials: int | None = None,
    **keys: Any,
) -> TrainingPlan:
    """What a sweep over a grid would train. Raises RecipeError for a search, which decides as it goes."""
    from ensemble.recipe.trials import grid_of

    asked = _Sweep.of(workspace, grid, search, trials, metric, seeds, keys)
    if asked.spec.search:
        raise RecipeError("a guided search decides as it goes; --dry-run is for --grid")
    cells = grid_of(asked.spec.grid, asked.read)
    workspace.listener.note(f"{len(cells.cells)} cells, {len(cells.members)} members")
    return plan_recipes(workspace, cells.members, asked.dataset)


@dataclass(frozen=True)
class _Sweep:
    """A sweep's recipe and data set. read: the recipe with further keys that win."""

    workspace: Workspace
    file: RecipeFile
    dataset: Dataset
    read: Callable[[Mapping[str, Any]], RecipeFile]

    @classmethod
    def of(
        cls,
        workspace: Workspace,
        grid: Mapping[str, Sequence[Any]] | None,
        search: Mapping[str, Sequence[Any]] | None,
        trials: int | None,
        metric: str | None,
        seeds: Sequence[int],
        keys: Mapping[str, Any],
    ) -> _Sweep:
        """Raises RecipeError where there is nothing to sweep, or both a grid and a search."""
        from ensemble.metrics import check_name

        overrides = {**keys, **({"seeds": list(seeds)} if seeds else {})}
        file = workspace.recipe(**overrides)
        if not file.members:
            raise RecipeError(f"no member to train: {file.source} names none; type `ens sweep RECIPE`")
        file = replace(file, sweep=_spec(file, grid, search, trials, metric))
        check_name(file.sweep.metric)
        names = {member.name for member in file.members}
        both = file.sweep.grid and file.sweep.search
        if both or not (file.sweep.grid or file.sweep.search or len(names) > 1):
            raise RecipeError(
                "--grid KEY=V1,V2,... or --search KEY=LOW:HIGH expected, here or under `sweep:`, or several members"
            )
        note_digits(file, workspace.listener)
        dataset = workspace.load(file.data)
        return cls(workspace, file, dataset, lambda values: workspace.recipe(**{**overrides, **values}))

    @property
    def spec(self) -> SweepSpec:
        """The recipe's `sweep`."""
        return self.file.sweep

    def name(self) -> str:
        """The same for the same question about the same data, whatever its seeds."""
        from ensemble.core.files import sha256_json

        question = self.spec.model_dump(include={"grid", "search"}, mode="json")
        members = sorted({str(member.name) for member in self.file.members})
        return f"{Path(self.file.source).stem}-{sha256_json([question, members, self.dataset.fingerprint])[:8]}"

    def runs_of(self, grid: Grid) -> Runs:
        """The complete runs of each cell."""
        from ensemble.training.jobs.train import run_of

        folder = self.workspace.runs_folder
        return {
            cell.place: [
                run for member in cell.members if (run := run_of(member, self.dataset.fingerprint, folder))
            ]
            for cell in grid.cells
        }

    def write(self, folder: Path, result: SweepTable | TrialTable, tables: Mapping[str, str]) -> Sweep:
        """Write the table as Markdown, CSV and a picture."""
        from ensemble.core.files import json_text, write_atomically

        contents: dict[str, str | bytes] = {"table.md": result.markdown(), **tables, "table.png": result.picture()}
        about = {"schema": 1, "fingerprint": self.dataset.fingerprint, "metric": result.metric}
        contents["sweep.json"] = json_text(about)
        for name, content in contents.items():
            write_atomically(folder / name, content)
        self.workspace.listener.note(f"written: {', '.join(contents)} in {folder}")
        return Sweep(result, folder, tuple(contents))


def _spec(
    file: RecipeFile,
    grid: Mapping[str, Sequence[Any]] | None,
    search: Mapping[str, Sequence[Any]] | None,
    trials: int | None,
    metric: str | None,
) -> SweepSpec:
    """The recipe's `sweep`, with what the call says."""
    from ensemble.recipe.file import sweep_section

    raw = file.sweep.model_dump()
    if grid or search:
        raw |= {
            "grid": {key: list(values) for key, values in (grid or {}).items()},
            "search": {key: list(values) for key, values in (search or {}).items()},
        }
    given = {"trials": trials, "metric": metric}
    return sweep_section(raw | {key: value for key, value in given.items() if value is not None}, "command line")


def _grid(asked: _Sweep, folder: Path, retry: bool) -> Sweep:
    """Train every cell, then write the table."""
    from ensemble.recipe.trials import grid_of
    from ensemble.report.sweep import sweep_table

    grid = grid_of(asked.spec.grid, asked.read)
    asked.workspace.listener.note(f"{len(grid.cells)} cells, {len(grid.members)} members")
    error: MembersFailed | None = None
    try:
        train_recipes(asked.workspace, grid.members, asked.dataset, retry=retry)
    except MembersFailed as failed:
        error = failed
    runs = asked.runs_of(grid)
    made: Sweep | None = None
    if any(runs.values()):
        table = sweep_table(grid, runs, asked.spec.metric)
        _mark(runs[table.best.place], f"best of {len(grid.cells)} cells")
        made = asked.write(folder, table, {"table.csv": table.csv(), "runs.csv": table.runs_csv()})
    if error is not None:
        error.sweep = made
        raise error
    assert made is not None
    return made


def _search(asked: _Sweep, folder: Path, retry: bool) -> Sweep:
    """Train as many trials as asked, then write the table of them."""
    from ensemble.metrics import find
    from ensemble.recipe.trials import grid_of, label, search
    from ensemble.report.sections.sweeps import TrialTable
    from ensemble.report.sweep import sweep_table

    spec, note = asked.spec, asked.workspace.listener.note
    metric = find(spec.metric, asked.dataset.classes.tolist())
    number = count(1)

    def cell_of(values: Mapping[str, Any]) -> Grid:
        return grid_of({key: [value] for key, value in values.items()}, asked.read)

    def evaluate(values: Mapping[str, Any]) -> float:
        keys = ", ".join(f"{key} {label(value)}" for key, value in values.items())
        note(f"trial {next(number)} of at most {spec.trials}: {keys}")
        grid = cell_of(values)
        try:
            train_recipes(asked.workspace, grid.members, asked.dataset, retry=retry)
        except MembersFailed as error:
            first = error.__cause__ if isinstance(error.__cause__, EnsError) else error
            note(f"failed: {one_line(first)}")
            raise first from error
        table = sweep_table(grid, asked.runs_of(grid), spec.metric)
        return fmean(cell.mean for cell in table.cells.values())

    tried = search(spec.search, spec.trials, folder / "journal.log", evaluate, higher=metric.higher)
    table = TrialTable(spec.metric, metric.higher, tuple(spec.search), tuple(tried))
    for runs in asked.runs_of(cell_of(table.best.values)).values():
        _mark(runs, f"best of {len(tried)} trials")
    return asked.write(folder, table, {"trials.csv": table.csv()})


def _mark(runs: Sequence[Run], why: str) -> None:
    """Record in the runs that the validation rows have chosen them, which makes their score there look better."""
    from ensemble.runs.writing import mark_chosen

    for run in runs:
        mark_chosen(run, why)


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
        from ensemble.report.fragments import fragment

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
    file = named_members(workspace.recipe(**keys), (arch,) if arch else (), {**source.overrides, **keys})
    member = _only_member(file)
    source.announce()
    dataset, teacher = _teacher(workspace, file, name, temperature, alpha)
    students, lacking = plans([member], dataset.fingerprint, workspace.runs_folder, teacher)
    baselines, _ = plans([member], dataset.fingerprint, workspace.runs_folder)
    if lacking:
        raise failure(lacking, 0)
    return dataset, teacher, students, baselines


def _only_member(file: RecipeFile) -> Recipe:
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
