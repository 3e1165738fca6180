"""Scope of a report: the run in focus, its members, the runs of the leaderboard, and the labelled rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ensemble.combine.candidates import recency_key
from ensemble.combine.record import Ensemble, read_ensemble
from ensemble.core.errors import DataError, RecipeError, abbreviated, one_line
from ensemble.data.dataset import Dataset
from ensemble.data.load import load_dataset
from ensemble.recipe import text
from ensemble.recipe.data_spec import DataSpec
from ensemble.report.classes import Labelled, labelled
from ensemble.runs.origin import usable_runs
from ensemble.runs.record import Kind
from ensemble.runs.run import Run

Load = Callable[[DataSpec, Path], Dataset]


@dataclass(frozen=True)
class Subject:
    """name: of the page.  focus: the run reported in detail.  ensemble: its record; None if it is not an ensemble.

    members: the ensemble's members that still exist, in its order; for any other run, the run alone.
    runs: the runs of the leaderboard.  recipe: the recipe file reported on, if any.  notes: caveats for the reader.
    load: (data section, runs folder) -> the data set.
    """

    name: str
    focus: Run
    members: tuple[Run, ...]
    ensemble: Ensemble | None
    runs: tuple[Run, ...]
    recipe: Path | None = None
    notes: tuple[str, ...] = ()
    load: Load = field(default=load_dataset, repr=False, compare=False)

    @property
    def folder(self) -> Path:
        """The runs folder."""
        return self.focus.path.parent

    @property
    def medical(self) -> bool:
        """Whether any recipe in scope marks its images as medical."""
        run_recipes = [run.path / "recipe.yaml" for run in (*self.runs, *self.members, *parents(self.focus))]
        return any(_is_medical(path) for path in (*run_recipes, *([self.recipe] if self.recipe else [])))


def about_run(run: Run) -> Subject:
    """The subject of a report on one complete run."""
    return _subject(run.id, run, [run])


def about_data(
    folder: Path, fingerprint: str, name: str, recipe: Path | None = None, focus: Run | None = None
) -> Subject:
    """The subject of a report on every complete run of a data set, with one of them in focus.

    focus: by default the newest ensemble, else the best run. Raises DataError if there is no complete run.
    """
    runs = [run for run in usable_runs(folder) if not run.is_fold and run.fingerprint == fingerprint]
    if not runs:
        raise DataError(f"no complete run of {name} in {one_line(folder)}; type `ens train`, or name a run")
    newest = max((run for run in runs if run.is_ensemble), key=recency_key, default=None)
    best = max(runs, key=lambda run: (run.has("valid"), _accuracy(run), run.id))
    return _subject(name, focus or newest or best, runs, recipe)


def data_name(run: Run) -> str:
    """The name of a run's data set: its folder according to the recipe of the run or a parent, else `report`."""
    if run.record.data.form == "digits":
        return "digits"
    paths = (source.path / "recipe.yaml" for source in (run, *parents(run)))
    recipes = (text.read(path) for path in paths if path.is_file())
    names = (Path(str(data.get("path", ""))).name for recipe in recipes if (data := _data_of(recipe)))
    return next((name for name in names if name), "report")


def _subject(name: str, focus: Run, runs: Sequence[Run], recipe: Path | None = None) -> Subject:
    if not focus.is_ensemble:
        return Subject(name, focus, (focus,), None, tuple(runs), recipe)
    record = read_ensemble(focus)
    available = {run.id: run for run in usable_runs(focus.path.parent)}
    members = tuple(available[member_id] for member_id in record.members if member_id in available)
    missing = [member_id for member_id in record.members if member_id not in available]
    notes = (
        [f"not in {focus.path.parent.name}, and so not shown by itself: {abbreviated(missing)}"] if missing else []
    )
    listed = {run.id: run for run in (*runs, *members)}
    return Subject(name, focus, members, record, tuple(listed.values()), recipe, tuple(notes))


def parents(run: Run) -> list[Run]:
    """The runs that run.json lists as parents, without those that are missing or incomplete."""
    listed = [Run(run.path.parent / parent.id) for parent in run.record.parents]
    return [parent for parent in listed if parent.complete and (parent.path / "run.json").is_file()]


def _accuracy(run: Run) -> float:
    return float((run.metrics.get("valid") or {}).get("accuracy") or 0.0)


def _is_medical(path: Path) -> bool:
    try:
        return path.is_file() and _data_of(text.read(path)).get("medical") is True
    except RecipeError:  # reported when the run with this recipe is used
        return False


def _data_of(recipe: Any) -> Mapping[str, Any]:
    data = recipe.get("data") if isinstance(recipe, dict) else None
    return data if isinstance(data, dict) else {}


@dataclass(frozen=True)
class Evidence:
    """Labelled rows that the report evaluates. rows: of the run in focus; None without labels, see `reason`.

    members: the same rows of each member, in the subject's order; empty if a member's rows differ.
    split: of the rows.  notes: caveats for the reader.  folds: whether the rows are out-of-fold predictions.
    """

    rows: Labelled | None
    members: tuple[Labelled, ...]
    split: str
    reason: str = ""
    notes: tuple[str, ...] = ()
    folds: bool = False

    @property
    def description(self) -> str:
        """`validation rows`, `out-of-fold rows`, `rows of test-night`."""
        if self.split != "valid":
            return f"rows of {self.split}"
        return "out-of-fold rows" if self.folds else "validation rows"


def evidence(subject: Subject) -> Evidence:
    """The labelled validation rows, else those of the first labelled test split."""
    focus, members = subject.focus, subject.members
    split = next((name for name in focus.splits() if focus.predictions(name).labelled.any()), None)
    if split is None:
        return Evidence(None, (), "valid", _no_labels(focus))
    folds = any(run.pools_folds for run in (focus, *members))
    try:
        all_rows = labelled([focus, *members] if subject.ensemble else [focus], split)
    except DataError as error:
        note = f"the members' rows are not those of {focus.id} any more: {one_line(error)}"
        return Evidence(labelled([focus], split)[0], (), split, notes=(note,), folds=folds)
    member_rows = tuple(all_rows[1:]) if subject.ensemble else (all_rows[0],)
    return Evidence(all_rows[0], member_rows, split, folds=folds)


def _no_labels(run: Run) -> str:
    """The reason why a run has no labelled rows."""
    if run.kind is Kind.REFIT:
        predecessors = " and ".join(parent.id for parent in parents(run)) or "the member before it"
        return (
            f"{run.id} was trained on the validation rows too, so that no rows are left that could score it;"
            f" what can be known is the score of {predecessors}"
        )

    return f"no row that {run.id} predicted has a label, so that nobody can say how often it is right"
