"""`ens run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble.cli.combine import combine_text
from ensemble.cli.ls import print_leaderboard
from ensemble.cli.options import (
    Execution,
    HomePath,
    parse_settings,
    set_option,
    track_options,
    training_project,
    with_execution,
)
from ensemble.cli.terminal import Settings, as_json_text
from ensemble.cli.train import print_members, print_plan, raise_errors

if TYPE_CHECKING:
    from ensemble.api.pipeline import Pipeline
    from ensemble.api.project import Project


@click.command()
@click.argument("recipe", type=HomePath(path_type=Path), required=False)
@click.option("--data", type=HomePath(path_type=Path), help="A folder of images, instead of the recipe's.")
@set_option
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
@with_execution
def command(
    settings: Settings,
    recipe: Path | None,
    data: Path | None,
    settings_: tuple[str, ...],
    retry: bool,
    dry_run: bool,
    as_json: bool,
    report: bool,
    execution: Execution,
) -> None:
    """Run a whole recipe: check the data, train the members, combine, submit, report, list.

    \b
    ens run recipes/cifar10-cpu.yaml --data cifar10
    ens run recipes/cifar10.yaml --dry-run
    """
    project = training_project(settings, recipe, data, parse_settings(settings_), execution)
    run_pipeline(project, retry=retry, dry_run=dry_run, as_json=as_json, report=report)


def run_pipeline(
    project: Project, *, retry: bool = False, dry_run: bool = False, as_json: bool = False, report: bool = True
) -> None:
    """Run the pipeline of a project, and print each part when it is done, or one JSON object at the end."""
    from ensemble.api.pipeline import pipeline, plan_pipeline

    if dry_run:
        plan = plan_pipeline(project)
        if as_json:
            click.echo(as_json_text(_facts(None)))
        else:
            print_plan(plan)
        raise_errors(plan)
        return
    # text is printed as parts complete, as a run takes hours
    result = pipeline(project, retry=retry, report=report, on_part=(lambda part: None) if as_json else _print)
    if as_json:
        click.echo(as_json_text(_facts(result)))


def _print(part: Any) -> None:
    """Print a part of a pipeline like the command for that part."""
    from ensemble.api.combining import SubmittedFile
    from ensemble.api.models import Ensemble, Leaderboard

    if isinstance(part, Ensemble):
        click.echo(combine_text(part))
    elif isinstance(part, SubmittedFile):
        click.echo(str(part.path))
    elif isinstance(part, Leaderboard):
        print_leaderboard(part)
    else:
        print_members(part, as_json=False)


def _facts(result: Pipeline | None) -> dict[str, Any]:
    """The results of a pipeline as plain values; empty ones for a dry run."""
    from ensemble.api.combining import facts_of

    if result is None:
        empty: dict[str, Any] = {"trained": [], "refits": [], "ensemble": None, "submission": None, "report": None}
        return {**empty, "leaderboard": []}
    return {
        "trained": result.members.facts(),
        "refits": [] if result.refits is None else result.refits.facts(),
        "ensemble": facts_of(result.ensemble),
        "submission": None if result.submission is None else result.submission.facts(),
        "report": None if result.report is None else str(result.report),
        "leaderboard": result.leaderboard.facts(),
    }
