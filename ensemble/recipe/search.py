"""A guided search over ranges of a recipe's keys, by optuna, which remembers its trials in a journal file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble.errors import EnsError, RecipeError, one_line
from ensemble.recipe.schema import Range, Recipe

Values = dict[str, float | int]


@dataclass(frozen=True)
class Trial:
    """Values that were tried, and the score; None where the member failed."""

    values: Mapping[str, float | int]
    score: float | None


def search(
    space: Mapping[str, Range],
    trials: int,
    journal: Path,
    evaluate: Callable[[Values], float],
    *,
    higher: bool,
    seed: int = 0,
) -> list[Trial]:
    """Try `trials` sets of values of `space` in all, those in `journal` counted, and return every one that ended.

    Values are tree-structured Parzen estimates (Bergstra et al. 2011) with three significant digits, so that the
    same ones are the same member. A trial that was interrupted is begun again with its values. evaluate: values
    -> score; an EnsError counts as a failed trial. Raises RecipeError without optuna or for an empty range.
    """
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
    state = optuna.trial.TrialState
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal))),
        study_name="sweep",
        load_if_exists=True,
        direction="maximize" if higher else "minimize",
    )
    for begun in study.get_trials(states=[state.RUNNING]):
        study.tell(begun.number, state=state.FAIL)
        study.enqueue_trial(begun.params)
    while (done := len(_ended(study.trials, state))) < trials:
        # a sampler of its own for each trial: a resumed search tries what an uninterrupted one would
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
        Trial({key: _rounded(key, value) for key, value in one.params.items()}, one.value)
        for one in _ended(study.trials, state)
    ]


def _ended(trials: list[Any], state: Any) -> list[Any]:
    """The trials that have a score, or failed by themselves rather than by an interruption."""
    return [one for one in trials if one.state == state.COMPLETE or "error" in one.user_attrs]


def _suggested(trial: Any, key: str, bounds: Range) -> float | int:
    low, high, *scale = bounds
    return _rounded(key, trial.suggest_float(key, low, high, log=bool(scale)))


def _rounded(key: str, value: float) -> float | int:
    return round(value) if is_whole(key) else float(f"{value:.3g}")


def is_whole(key: str) -> bool:
    """Whether the recipe's key takes whole numbers."""
    return "float" not in str(Recipe.model_fields[key].annotation)
