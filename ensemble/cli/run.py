"""`ens run`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble.cli import completion
from ensemble.cli.options import HomePath, current, parse_settings, say_source, track_options, tracked
from ensemble.cli.terminal import Settings, as_json_text, note

if TYPE_CHECKING:
    from ensemble.combine.ensembler import Combined
    from ensemble.recipe.file import RecipeFile
    from ensemble.recipe.schema import Recipe
    from ensemble.training.jobs.plan import Job


@click.command()
@click.argument("recipe", type=HomePath(path_type=Path), required=False)
@click.option("--data", type=HomePath(path_type=Path), help="A folder of images, instead of the recipe's.")
@click.option(
    "--set",
    "settings_",
    multiple=True,
    shell_complete=completion.keys,
    metavar="KEY=VALUE",
    help="A key that wins over every member's.",
)
@click.option("--device", help="cpu, cuda, cuda:1, mps. [default: the best there is]")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1),
    help="Members trained at a time. [default: on a GPU what is fastest, else 1]",
)
@click.option("--retry", is_flag=True, help="Train runs again that failed.")
@click.option("--dry-run", is_flag=True, help="Say what would be trained, and stop.")
@track_options
@click.option("--json", "as_json", is_flag=True, help="Print what was made as one JSON object.")
@click.option(
    "--report/--no-report", default=True, help="Write the page of `ens report` at the end. [default: report]"
)
@click.pass_obj
def command(
    settings: Settings,
    recipe: Path | None,
    data: Path | None,
    settings_: tuple[str, ...],
    device: str | None,
    jobs: int | None,
    retry: bool,
    dry_run: bool,
    track: str | None,
    track_weights: bool,
    as_json: bool,
    report: bool,
) -> None:
    """Run a whole recipe: check the data, train the members, combine, submit, report, list.

    \b
    ens run recipes/cifar10-cpu.yaml --data cifar10
    ens run recipes/cifar10.yaml --dry-run
    """
    from ensemble.core.errors import RecipeError

    settings = tracked(settings, track, track_weights)
    found = current(recipe, data, parse_settings(settings_))
    if not found.members:
        raise RecipeError(f"no member to train: {found.source} names none; type `ens run RECIPE`, or `ens demo`")
    if found.sweep.grid or found.sweep.search:
        raise RecipeError(f"{found.source} is a sweep; type `ens sweep {found.source}`")
    say_source(found)
    pipeline(
        settings,
        found,
        device=device,
        workers=jobs,
        retry=retry,
        dry_run=dry_run,
        as_json=as_json,
        report=report,
    )


def pipeline(
    settings: Settings,
    found: RecipeFile,
    *,
    device: str | None,
    workers: int | None = None,
    retry: bool = False,
    dry_run: bool = False,
    as_json: bool = False,
    report: bool = True,
) -> None:
    """Train, combine, refit where the recipe says so, submit, report, print the leaderboard, or one JSON object."""
    from dataclasses import replace

    from ensemble.cli import combine, ls, submit, train
    from ensemble.cli.current import Current
    from ensemble.cli.report import report_on_recipe

    # text comes as it is made: a run takes hours
    say: Callable[[str], None] = (lambda line: None) if as_json else click.echo
    here = Current(settings.runs, given=found)
    made: dict[str, Any] = {
        "trained": [],
        "refits": [],
        "ensemble": None,
        "submission": None,
        "report": None,
        "leaderboard": [],
    }

    def trained(members: Iterable[Recipe], part: str) -> dict[str, Job]:
        done, errors = train.train_members(
            settings,
            replace(found, members=tuple(members)),
            device=device,
            workers=workers,
            retry=retry,
            dry_run=dry_run,
            quiet=as_json,
        )
        made[part] = train.facts_of(done)
        for name in done:
            say(name)
        train.raise_failures(errors, len(done))
        return done

    def combined(names: Iterable[str], refits: bool) -> Combined:
        ensemble = combine.combine_runs(settings, here, list(names), refits=refits)
        made["ensemble"] = combine.facts_of(ensemble)
        say(combine.text_of(ensemble))
        return ensemble

    check_what_comes_after(found, settings.runs)
    jobs = trained((member.model_copy(update={"full": False}) for member in found.members), "trained")
    if not dry_run:
        ensemble = combined(jobs, refits=False)
        if found.combine.refits:
            note("refitting the members of the ensemble on train + valid")
            chosen = (jobs[run_id].recipe for run_id in ensemble.member_ids)
            trained((member.model_copy(update={"full": True}) for member in chosen), "refits")
            ensemble = combined(jobs, refits=True)
        if ensemble.has_test:
            written = submit.submit_run(settings, here, ensemble.run_id)
            made["submission"] = submit.facts_of(written)
            say(str(written.path))
        else:
            note("the data set has no test split, so there is nothing to submit")
        if report:
            made["report"] = str(report_on_recipe(settings, found, ensemble.run, device))
        rows = ls.rows_of(settings)
        made["leaderboard"] = ls.facts_of(rows)
        if not as_json:
            ls.print_leaderboard(settings, rows)
    if as_json:
        click.echo(as_json_text(made))


def check_what_comes_after(found: RecipeFile, runs: Path) -> None:
    """Refuse before hours of training what would fail after them.

    Raises RecipeError for a rule, metric, format or sample that does not exist, DataError for ids that a refit
    could not pool.
    """
    from ensemble.cli.terminal import load_with_progress
    from ensemble.combine.rules import rules
    from ensemble.core.errors import RecipeError
    from ensemble.data.load import refit_of
    from ensemble.metrics import check_name, find
    from ensemble.recipe.text import refuse
    from ensemble.submit.formats import formats

    problems = []
    for check, name in (
        (rules.get, found.combine.rule),
        (check_name, found.combine.metric),
        (formats.get, found.submit.format),
    ):
        try:
            check(name)
        except RecipeError as error:
            problems.append(str(error))
    if found.submit.sample and not Path(found.submit.sample).is_file():
        problems.append(f"submit.sample: there is no file {found.submit.sample!r}")
    refuse(problems, found.source)
    if ":" in found.combine.metric:  # of one class, which the data has or has not
        find(found.combine.metric, load_with_progress(found.data, runs).classes.tolist())
    if found.combine.refits:
        refit_of(load_with_progress(found.data, runs))
