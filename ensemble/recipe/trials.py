"""The trials of a sweep: all combinations of a grid, or proposals of optuna."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from ensemble.core.errors import EnsError, RecipeError, one_line
from ensemble.recipe.file import RecipeFile
from ensemble.recipe.schema import Range, ResolvedRecipe

MEMBER = "member"
"""The axis of a recipe's members, if it has several."""


@dataclass(frozen=True)
class Cell:
    """A cell of the table of a sweep. place: its label on each axis.  members: equal except for the seed."""

    place: tuple[str, ...]
    members: tuple[ResolvedRecipe, ...]


@dataclass(frozen=True)
class Grid:
    """axes: name -> labels, in the order of the table.  cells: in the order of the product of the axes."""

    axes: Mapping[str, tuple[str, ...]]
    cells: tuple[Cell, ...]

    @property
    def members(self) -> list[ResolvedRecipe]:
        """The members of all cells."""
        return [member for cell in self.cells for member in cell.members]


def grid_of(axes: Mapping[str, Sequence[Any]], read: Callable[[Mapping[str, Any]], RecipeFile]) -> Grid:
    """The grid of `axes`, key -> values. read: keys that replace those of members -> the recipe file with them.

    Raises RecipeError for invalid values.
    """
    cells: list[Cell] = []
    names: dict[str, None] = {}
    for values in product(*axes.values()):
        recipe_file = read(dict(zip(axes, values, strict=True)))
        by_name: dict[str, list[ResolvedRecipe]] = {}
        for member in recipe_file.members:
            by_name.setdefault(str(member.name), []).append(member)
        cell_labels = tuple(label(value) for value in values)
        for name, members in by_name.items():
            names.setdefault(name)
            cells.append(Cell((name, *cell_labels), tuple(members)))
    labels = {key: tuple(dict.fromkeys(label(value) for value in values)) for key, values in axes.items()}
    if "arch" in axes or len(names) == 1:  # the axes already identify the member
        return Grid(labels, tuple(Cell(cell.place[1:], cell.members) for cell in cells))
    order = {name: index for index, name in enumerate(names)}
    return Grid({MEMBER: tuple(names), **labels}, tuple(sorted(cells, key=lambda cell: order[cell.place[0]])))


def label(value: Any) -> str:
    """A value as text for a table."""
    if isinstance(value, (list, tuple)):
        return "+".join(map(label, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "default"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


Values = dict[str, float | int]


@dataclass(frozen=True)
class Trial:
    """The values of a trial, and its score; None if the member failed."""

    values: Mapping[str, float | int]
    score: float | None


def _study(space: Mapping[str, Range], journal: Path, higher: bool) -> Any:
    """The study that `journal` holds, or a new one. Raises RecipeError without optuna or for an empty range."""
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise RecipeError("a guided search needs optuna; type `pip install 'optuna>=4'`") from error
    for key, (low, high, *scale) in space.items():
        if not low < high or (scale and low <= 0):
            raise RecipeError(f"search {key}: {low} to {high} found, a low end below the high one expected")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    journal.parent.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    direction: Literal["maximize", "minimize"] = "maximize" if higher else "minimize"
    return optuna.create_study(storage=storage, study_name="sweep", load_if_exists=True, direction=direction)


def search(
    space: Mapping[str, Range],
    trials: int,
    journal: Path,
    evaluate: Callable[[Values], float],
    *,
    higher: bool,
    seed: int = 0,
) -> list[Trial]:
    """Evaluate sets of values of `space` until `journal` has `trials` completed ones, and return all of these.

    Values are proposed by tree-structured Parzen estimators (Bergstra et al. 2011) and rounded to three significant
    digits, so that equal values give the same member. An interrupted trial is repeated with its values. evaluate:
    values -> score; an EnsError counts as a failed trial. Raises RecipeError without optuna or for an empty range.
    """
    study = _study(space, journal, higher)
    import optuna

    state = optuna.trial.TrialState
    for interrupted in study.get_trials(states=[state.RUNNING]):
        study.tell(interrupted.number, state=state.FAIL)
        study.enqueue_trial(interrupted.params)
    while (done := len(_completed(study.trials, state))) < trials:
        # a new sampler for each trial, so that a resumed search proposes the same values as an uninterrupted one
        study.sampler = optuna.samplers.TPESampler(seed=seed + done)
        trial = study.ask()
        values = {key: _suggested(trial, key, bounds) for key, bounds in space.items()}
        try:
            score = evaluate(values)
        except EnsError as error:
            trial.set_user_attr("error", one_line(error))
            study.tell(trial, state=state.FAIL)
        else:
            study.tell(trial, score)
    return [
        Trial({key: _rounded(key, value) for key, value in completed.params.items()}, completed.value)
        for completed in _completed(study.trials, state)
    ]


def _completed(trials: list[Any], state: Any) -> list[Any]:
    """The trials with a score, or with an error of their own, unlike interrupted ones."""
    return [trial for trial in trials if trial.state == state.COMPLETE or "error" in trial.user_attrs]


def _suggested(trial: Any, key: str, bounds: Range) -> float | int:
    low, high, *scale = bounds
    return _rounded(key, trial.suggest_float(key, low, high, log=bool(scale)))


def _rounded(key: str, value: float) -> float | int:
    return round(value) if is_whole(key) else float(f"{value:.3g}")


def is_whole(key: str) -> bool:
    """Whether the values of the recipe key are integers."""
    return "float" not in str(ResolvedRecipe.model_fields[key].annotation)
