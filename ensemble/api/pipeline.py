"""The whole pipeline of a recipe: train, combine, refit, submit, report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble.api.combining import SubmittedFile, combine, submit
from ensemble.api.models import Ensemble, Leaderboard, leaderboard
from ensemble.api.plans import TrainingPlan, plan_file
from ensemble.api.reporting import report_on_ensemble
from ensemble.api.source import note_digits
from ensemble.api.training import Members, train_file

if TYPE_CHECKING:
    from ensemble.api.workspace import Workspace
    from ensemble.recipe.file import RecipeFile
    from ensemble.recipe.schema import ResolvedRecipe


@dataclass(frozen=True)
class Pipeline:
    """The parts of a pipeline. None: the recipe does not ask for it, or there is no test split."""

    members: Members
    ensemble: Ensemble
    refits: Members | None
    submission: SubmittedFile | None
    report: Path | None
    leaderboard: Leaderboard


PartCallback = Callable[[Any], None]


def pipeline(
    workspace: Workspace,
    *,
    retry: bool = False,
    report: bool = True,
    on_part: PartCallback = lambda part: None,
    **keys: Any,
) -> Pipeline:
    """As Project.pipeline. on_part: called with each part as soon as it is there, as a pipeline takes hours."""
    file = pipeline_recipe(workspace, **keys)
    check_what_comes_after(workspace, file)
    members = _trained(workspace, file, file.members, full=False, retry=retry, on_part=on_part)
    ensemble = combine(workspace, [model.id for model in members], refits=False)
    on_part(ensemble)
    refits = None
    if file.combine.refits:
        workspace.listener.note("refitting the members of the ensemble on train + valid")
        recipes = dict(zip([model.id for model in members], members.recipes, strict=True))
        chosen = [recipes[run_id] for run_id in ensemble.combined.member_ids]
        refits = _trained(workspace, file, chosen, full=True, retry=retry, on_part=on_part)
        ensemble = combine(workspace, [model.id for model in members], refits=True)
        on_part(ensemble)
    submission = None
    if ensemble.combined.has_test:
        submission = submit(workspace, ensemble.id)
        on_part(submission)
    else:
        workspace.listener.note("the data set has no test split, so there is nothing to submit")
    page = report_on_ensemble(workspace, file, ensemble.run) if report else None
    rows = leaderboard(workspace)
    on_part(rows)
    return Pipeline(members, ensemble, refits, submission, page, rows)


def plan_pipeline(workspace: Workspace, **keys: Any) -> TrainingPlan:
    """What a pipeline would train first."""
    file = pipeline_recipe(workspace, **keys)
    check_what_comes_after(workspace, file)
    return plan_file(workspace, _with(file, file.members, full=False))


def pipeline_recipe(workspace: Workspace, **keys: Any) -> RecipeFile:
    """The recipe of a pipeline. Raises RecipeError where it names no member, or is a sweep."""
    from ensemble.core.errors import RecipeError

    file = workspace.recipe(**keys)
    if not file.members:
        raise RecipeError(f"no member to train: {file.source} names none; type `ens run RECIPE`, or `ens demo`")
    if file.sweep.grid or file.sweep.search:
        raise RecipeError(f"{file.source} is a sweep; type `ens sweep {file.source}`")
    note_digits(file, workspace.listener)
    return file


def _with(file: RecipeFile, recipes: Iterable[ResolvedRecipe], *, full: bool) -> RecipeFile:
    return replace(file, members=tuple(recipe.model_copy(update={"full": full}) for recipe in recipes))


def _trained(
    workspace: Workspace,
    file: RecipeFile,
    recipes: Iterable[ResolvedRecipe],
    *,
    full: bool,
    retry: bool,
    on_part: PartCallback,
) -> Members:
    from ensemble.core.errors import MembersFailed

    try:
        members = train_file(workspace, _with(file, recipes, full=full), retry=retry)
    except MembersFailed as error:
        on_part(error.members)
        raise
    on_part(members)
    return members


def check_what_comes_after(workspace: Workspace, file: RecipeFile) -> None:
    """Refuse before hours of training what would fail after them.

    Raises RecipeError for a rule, metric, format or sample that does not exist, DataError for ids that a refit
    could not pool.
    """
    from ensemble.combine.rules import rules
    from ensemble.core.errors import RecipeError
    from ensemble.data.load import refit_of
    from ensemble.metrics import check_name, find
    from ensemble.recipe.text import refuse
    from ensemble.submit.formats import formats

    problems = []
    checks: tuple[tuple[Callable[[str], object], str], ...] = (
        (rules.get, file.combine.rule),
        (check_name, file.combine.metric),
        (formats.get, file.submit.format),
    )
    for check, name in checks:
        try:
            check(name)
        except RecipeError as error:
            problems.append(str(error))
    if file.submit.sample and not Path(file.submit.sample).is_file():
        problems.append(f"submit.sample: there is no file {file.submit.sample!r}")
    refuse(problems, file.source)
    if ":" in file.combine.metric:  # of one class, which the data has or has not
        find(file.combine.metric, workspace.load(file.data, recipes=file.members).classes.tolist())
    if file.combine.refits:
        refit_of(workspace.load(file.data, recipes=file.members))
        _refuse_refits_that_choose(file)


def _refuse_refits_that_choose(file: RecipeFile) -> None:
    """Raise RecipeError for methods that choose by validation rows, of which a refit has none."""
    # last, as the methods take seconds to import
    from ensemble.recipe.contradictions import undecidable
    from ensemble.recipe.methods import chosen_on_valid
    from ensemble.recipe.text import refuse

    refuse(
        [
            f"{recipe.name}, combine.refits: {problem}"
            for recipe in file.members
            for problem in undecidable(recipe.model_copy(update={"full": True}), chosen_on_valid(recipe))
        ],
        file.source,
    )
