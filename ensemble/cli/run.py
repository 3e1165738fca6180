"""`ens run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ensemble.cli.context import Settings, note
from ensemble.cli.options import current, parse_settings, say_source
from ensemble.cli.train import train_and_print

if TYPE_CHECKING:
    from ensemble.recipe.file import RecipeFile


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path), required=False)
@click.option("--data", type=click.Path(path_type=Path), help="A folder of images, instead of the recipe's.")
@click.option("--set", "settings_", multiple=True, metavar="KEY=VALUE", help="A key that wins over every member's.")
@click.option("--device", help="cpu, cuda, cuda:1, mps. [default: the best there is]")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1),
    help="Members trained at a time. [default: on a GPU what is fastest, else 1]",
)
@click.option("--retry", is_flag=True, help="Train runs again that failed.")
@click.option("--dry-run", is_flag=True, help="Say what would be trained, and stop.")
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
    report: bool,
) -> None:
    """Run a whole recipe: check the data, train the members, combine, submit, report, list.

    \b
    ens run recipes/cifar10-cpu.yaml --data cifar10
    ens run recipes/cifar10.yaml --dry-run
    """
    from ensemble.errors import RecipeError

    found = current(recipe, data, parse_settings(settings_))
    if not found.members:
        raise RecipeError(f"no member to train: {found.source} names none; type `ens run RECIPE`, or `ens demo`")
    if found.sweep.grid or found.sweep.search:
        raise RecipeError(f"{found.source} is a sweep; type `ens sweep {found.source}`")
    say_source(found)
    pipeline(settings, found, device=device, workers=jobs, retry=retry, dry_run=dry_run, report=report)


def pipeline(
    settings: Settings,
    found: RecipeFile,
    *,
    device: str | None,
    workers: int | None = None,
    retry: bool = False,
    dry_run: bool = False,
    report: bool = True,
) -> None:
    """Train, combine, refit where the recipe says so, submit, write the report, and print the leaderboard."""
    from dataclasses import replace

    from ensemble.cli.combine import combine_and_print
    from ensemble.cli.ls import print_leaderboard
    from ensemble.cli.report import report_on_recipe
    from ensemble.cli.submit import submit_and_print

    check_what_comes_after(found, settings.runs)
    base = replace(found, members=tuple(member.model_copy(update={"full": False}) for member in found.members))
    trained = train_and_print(settings, base, device=device, workers=workers, retry=retry, dry_run=dry_run)
    if dry_run:
        return
    combined = combine_and_print(settings, found, list(trained), refits=False)
    if found.combine.refits:
        chosen = [trained[run_id] for run_id in combined.member_ids]
        note("refitting the members of the ensemble on train + valid")
        again = replace(found, members=tuple(member.model_copy(update={"full": True}) for member in chosen))
        train_and_print(settings, again, device=device, workers=workers, retry=retry)
        combined = combine_and_print(settings, found, list(trained), refits=True)
    if combined.has_test:
        submit_and_print(settings, found, combined.run_id)
    else:
        note("the data set has no test split, so there is nothing to submit")
    if report:
        report_on_recipe(settings, found, combined.run, device)
    print_leaderboard(settings)


def check_what_comes_after(found: RecipeFile, runs: Path) -> None:
    """Refuse before hours of training what would fail after them.

    Raises RecipeError for a rule, metric, format or sample that does not exist, DataError for ids that a refit
    could not pool.
    """
    from ensemble.cli.reading import load_with_progress
    from ensemble.combine.rules import rules
    from ensemble.data.load import refit_of
    from ensemble.errors import RecipeError
    from ensemble.metrics import check_name, find
    from ensemble.recipe.problems import refuse
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
