"""Sweeps over recipe keys: a grid of values, or a guided search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ensemble.api.plans import TrainingPlan, plan_recipes
from ensemble.api.source import note_digits
from ensemble.api.training import train_recipes
from ensemble.core.errors import EnsError, MembersFailed, RecipeError, one_line

if TYPE_CHECKING:
    from ensemble.api.workspace import Workspace
    from ensemble.data.dataset import Dataset
    from ensemble.recipe.file import RecipeFile
    from ensemble.recipe.schema import SweepSpec
    from ensemble.recipe.trials import Grid
    from ensemble.report.sweep import SweepTable, TrialTable
    from ensemble.runs.run import Run

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
        from ensemble.report.html import fragment

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
    request = _SweepRequest.of(workspace, grid, search, trials, metric, seeds, keys)
    folder = out or workspace.runs_folder / "sweeps" / request.name()
    with workspace.listener:
        return _search(request, folder, retry) if request.spec.search else _grid(request, folder, retry)


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

    request = _SweepRequest.of(workspace, grid, search, trials, metric, seeds, keys)
    if request.spec.search:
        raise RecipeError("a guided search decides as it goes; --dry-run is for --grid")
    cells = grid_of(request.spec.grid, request.read)
    workspace.listener.note(f"{len(cells.cells)} cells, {len(cells.members)} members")
    return plan_recipes(workspace, cells.members, request.dataset)


@dataclass(frozen=True)
class _SweepRequest:
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
    ) -> _SweepRequest:
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
        from ensemble.report.sweep import facts_of

        contents: dict[str, str | bytes] = {"table.md": result.markdown(), **tables, "table.png": result.picture()}
        contents["sweep.json"] = json_text(facts_of(result, self.dataset.fingerprint))
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


def _grid(request: _SweepRequest, folder: Path, retry: bool) -> Sweep:
    """Train every cell, then write the table."""
    from ensemble.recipe.trials import grid_of
    from ensemble.report.sweep import sweep_table

    grid = grid_of(request.spec.grid, request.read)
    request.workspace.listener.note(f"{len(grid.cells)} cells, {len(grid.members)} members")
    error: MembersFailed | None = None
    try:
        train_recipes(request.workspace, grid.members, request.dataset, retry=retry)
    except MembersFailed as failed:
        error = failed
    runs = request.runs_of(grid)
    swept: Sweep | None = None
    if any(runs.values()):
        table = sweep_table(grid, runs, request.spec.metric)
        _mark(runs[table.best.place], f"best of {len(grid.cells)} cells")
        swept = request.write(folder, table, {"table.csv": table.csv(), "runs.csv": table.runs_csv()})
    if error is not None:
        error.sweep = swept
        raise error
    assert swept is not None
    return swept


def _search(request: _SweepRequest, folder: Path, retry: bool) -> Sweep:
    """Train as many trials as requested, then write the table of them."""
    from ensemble.metrics import find
    from ensemble.recipe.trials import grid_of, label, search
    from ensemble.report.sweep import TrialTable, sweep_table

    spec, note = request.spec, request.workspace.listener.note
    metric = find(spec.metric, request.dataset.classes.tolist())
    number = count(1)

    def cell_of(values: Mapping[str, Any]) -> Grid:
        return grid_of({key: [value] for key, value in values.items()}, request.read)

    def evaluate(values: Mapping[str, Any]) -> float:
        keys = ", ".join(f"{key} {label(value)}" for key, value in values.items())
        note(f"trial {next(number)} of at most {spec.trials}: {keys}")
        grid = cell_of(values)
        try:
            train_recipes(request.workspace, grid.members, request.dataset, retry=retry)
        except MembersFailed as error:
            first = error.__cause__ if isinstance(error.__cause__, EnsError) else error
            note(f"failed: {one_line(first)}")
            raise first from error
        table = sweep_table(grid, request.runs_of(grid), spec.metric)
        return fmean(cell.mean for cell in table.cells.values())

    tried = search(spec.search, spec.trials, folder / "journal.log", evaluate, higher=metric.higher)
    table = TrialTable(spec.metric, metric.higher, tuple(spec.search), tuple(tried))
    for runs in request.runs_of(cell_of(table.best.values)).values():
        _mark(runs, f"best of {len(tried)} trials")
    return request.write(folder, table, {"trials.csv": table.csv()})


def _mark(runs: Sequence[Run], why: str) -> None:
    """Record in the runs that the validation rows have chosen them, which makes their score there look better."""
    from ensemble.runs.writing import mark_chosen

    for run in runs:
        mark_chosen(run, why)
