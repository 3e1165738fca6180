"""What a report covers: the run, its members, the runs beside it, and the labelled rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble.combine.candidates import last_made
from ensemble.combine.record import Ensemble, read_ensemble
from ensemble.core.errors import DataError, RecipeError, abbreviated, one_line
from ensemble.recipe import text
from ensemble.report.classes import Labelled, labelled
from ensemble.runs.origin import usable_runs
from ensemble.runs.run import Run


@dataclass(frozen=True)
class Subject:
    """name: the page's.  focus: the run that is looked at closely.  ensemble: its own record, where it is one.

    members: those of an ensemble that are still there, in its order; of any other run, the run alone.
    runs: what the leaderboard lists.  recipe: the file that was asked about.  notes: what a reader must know.
    """

    name: str
    focus: Run
    members: tuple[Run, ...]
    ensemble: Ensemble | None
    runs: tuple[Run, ...]
    recipe: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder of runs."""
        return self.focus.path.parent

    @property
    def medical(self) -> bool:
        """Whether any recipe here says that its images are medical."""
        own = [run.path / "recipe.yaml" for run in (*self.runs, *self.members, *parents(self.focus))]
        return any(_says_medical(path) for path in (*own, *([self.recipe] if self.recipe else [])))


def about_run(run: Run) -> Subject:
    """A report on one complete run."""
    return _subject(run.id, run, [run])


def about_data(
    folder: Path, fingerprint: str, name: str, recipe: Path | None = None, focus: Run | None = None
) -> Subject:
    """A report on every complete run of a data set, with a close look at one.

    focus: by default the newest ensemble, else the best run. Raises DataError where there is none.
    """
    runs = [run for run in usable_runs(folder) if not run.is_fold and run.fingerprint == fingerprint]
    if not runs:
        raise DataError(f"no complete run of {name} in {one_line(folder)}; type `ens train`, or name a run")
    newest = max((run for run in runs if run.kind == "ensemble"), key=last_made, default=None)
    best = max(runs, key=lambda run: (run.has("valid"), _accuracy(run), run.id))
    return _subject(name, focus or newest or best, runs, recipe)


def data_name(run: Run) -> str:
    """What the data set of a run is called: its folder, where a recipe says which."""
    if (run.facts.get("data") or {}).get("form") == "digits":
        return "digits"
    paths = (one.path / "recipe.yaml" for one in (run, *parents(run)))
    found = (text.read(path) for path in paths if path.is_file())
    named = (Path(str(data.get("path", ""))).name for value in found if (data := _data_of(value)))
    return next((name for name in named if name), "report")


def _subject(name: str, focus: Run, runs: Sequence[Run], recipe: Path | None = None) -> Subject:
    if focus.kind != "ensemble":
        return Subject(name, focus, (focus,), None, tuple(runs), recipe)
    record = read_ensemble(focus)
    there = {run.id: run for run in usable_runs(focus.path.parent)}
    members = tuple(there[one] for one in record.members if one in there)
    missing = [one for one in record.members if one not in there]
    notes = (
        [f"not in {focus.path.parent.name}, and so not shown by itself: {abbreviated(missing)}"] if missing else []
    )
    listed = {run.id: run for run in (*runs, *members)}
    return Subject(name, focus, members, record, tuple(listed.values()), recipe, tuple(notes))


def parents(run: Run) -> list[Run]:
    """The runs that it names as its parents, as far as they are there and complete."""
    named = [Run(run.path.parent / str(parent.get("id"))) for parent in run.facts.get("parents") or []]
    return [one for one in named if one.complete and (one.path / "run.json").is_file()]


def _accuracy(run: Run) -> float:
    return float((run.metrics.get("valid") or {}).get("accuracy") or 0.0)


def _says_medical(path: Path) -> bool:
    try:
        return path.is_file() and _data_of(text.read(path)).get("medical") is True
    except RecipeError:  # of some other run; whoever uses that is told
        return False


def _data_of(recipe: Any) -> Mapping[str, Any]:
    data = recipe.get("data") if isinstance(recipe, dict) else None
    return data if isinstance(data, dict) else {}


@dataclass(frozen=True)
class Evidence:
    """rows: of the run that is looked at; None where it has no label, and `why` says so.

    members: the same rows of each member in the subject's order, empty where they are not the same rows.
    split: what the rows are.  notes: what a reader must know.  folds: whether each row is one that a fold left out.
    """

    rows: Labelled | None
    members: tuple[Labelled, ...]
    split: str
    why: str = ""
    notes: tuple[str, ...] = ()
    folds: bool = False

    @property
    def named(self) -> str:
        """`validation rows`, `out-of-fold rows`, `rows of test-night`."""
        if self.split != "valid":
            return f"rows of {self.split}"
        return "out-of-fold rows" if self.folds else "validation rows"


def evidence(subject: Subject) -> Evidence:
    """The validation rows, else the first labelled test's."""
    focus, members = subject.focus, subject.members
    split = next((name for name in focus.splits() if focus.predictions(name).labelled.any()), None)
    if split is None:
        return Evidence(None, (), "valid", _why(focus))
    folds = any(run.pools_folds for run in (focus, *members))
    try:
        found = labelled([focus, *members] if subject.ensemble else [focus], split)
    except DataError as error:
        note = f"the members' rows are not those of {focus.id} any more: {one_line(error)}"
        return Evidence(labelled([focus], split)[0], (), split, notes=(note,), folds=folds)
    own = tuple(found[1:]) if subject.ensemble else (found[0],)
    return Evidence(found[0], own, split, folds=folds)


def _why(run: Run) -> str:
    if run.kind == "refit":
        before = " and ".join(one.id for one in parents(run)) or "the member before it"
        return (
            f"{run.id} was trained on the validation rows too, so that no rows are left that could score it;"
            f" what can be known is the score of {before}"
        )
    return f"no row that {run.id} predicted has a label, so that nobody can say how often it is right"
