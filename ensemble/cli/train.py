"""`ens train`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble.cli import completion
from ensemble.cli.options import (
    Duration,
    Execution,
    F,
    data_options,
    finite_float,
    parse_settings,
    track_options,
    training_project,
    with_execution,
)
from ensemble.cli.terminal import Settings, as_json_text

if TYPE_CHECKING:
    from ensemble.api.plans import TrainingPlan


class Rate(click.ParamType[Any]):
    """`auto` or a number."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "auto" else finite_float.convert(value, param, ctx)


RECIPE_OPTIONS = (
    click.option(
        "--preset",
        type=click.Choice(["quick", "good", "best"]),
        help="How much time fine-tuning may take. [default: good]",
    ),
    click.option("--image-size", type=int, help="Pixels a side. [default: 224; digits: 32]"),
    click.option("--epochs", type=int, help="Epochs of the whole network."),
    click.option(
        "--frozen-epochs", type=int, help="Epochs of the head alone, before. [default: 1; from scratch: 0]"
    ),
    click.option("--batch-size", type=int, help="Images a batch. [default: 64]"),
    click.option("--lr", type=Rate(), help="The highest learning rate, or `auto` for the finder. [default: auto]"),
    click.option("--weights", help="`imagenet`, `none`, or a file. [default: imagenet; digits: none]"),
    click.option("--folds", type=int, help="Train on k folds; validation rows are then all rows."),
    click.option(
        "--tta",
        shell_complete=completion.names("ensemble.inference.forward:views"),
        help="Views averaged when predicting, such as flip; `ens help methods` lists them.",
    ),
    click.option(
        "--set",
        "settings_",
        multiple=True,
        shell_complete=completion.keys,
        metavar="KEY=VALUE",
        help="Any other key of a recipe.",
    ),
)
"""Options for keys of a recipe."""

TRAINING_OPTIONS = (
    click.option("--device", help="cpu, cuda, cuda:1, mps. [default: the best there is]"),
    click.option(
        "-j",
        "--jobs",
        type=click.IntRange(1),
        help="Members trained at a time. [default: on a GPU what is fastest, else 1]",
    ),
    click.option("--retry", is_flag=True, help="Train runs again that failed."),
)


def add_options(options: Sequence[Callable[[F], F]]) -> Callable[[F], F]:
    """Decorator that adds `options` in this order."""

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@click.command()
@click.option(
    "--arch",
    "archs",
    multiple=True,
    shell_complete=completion.names("ensemble.recipe.architectures:architectures"),
    help="An architecture; may be given several times.",
)
@data_options
@add_options(RECIPE_OPTIONS)
@click.option("--seed", "seeds", type=int, multiple=True, help="A seed; several make several members.")
@click.option("--full", is_flag=True, help="Refit on train + valid what the same command without --full justified.")
@add_options(TRAINING_OPTIONS)
@click.option("--budget", type=Duration(), help="Train what fits into this time and adds most: 90m, 2h, 1h30m.")
@click.option("--dry-run", is_flag=True, help="Say what would be trained and how long it takes, and stop.")
@track_options
@click.option("--json", "as_json", is_flag=True, help="Print the runs and their scores as JSON.")
@click.pass_obj
@with_execution
def command(
    settings: Settings,
    /,
    archs: tuple[str, ...],
    recipe: Path | None,
    data: Path | None,
    seeds: tuple[int, ...],
    settings_: tuple[str, ...],
    retry: bool,
    budget: float | None,
    dry_run: bool,
    full: bool,
    as_json: bool,
    execution: Execution,
    **keys: Any,
) -> None:
    """Train members and print their run ids.

    A complete run is left as it is, an interrupted one goes on where it stopped, to the bit.

    \b
    ens train --arch densenet121
    ens train --arch resnet34 --arch efficientnet_b0 --data photos --epochs 5
    ens train --recipe recipes/cifar10.yaml --seed 0 --seed 1
    ens train --recipe recipes/cifar10.yaml --budget 2h
    ens train --arch resnet34 --set stem=small --set label_smoothing=0.1
    """
    from ensemble.core.errors import MembersFailed

    overrides = {key: value for key, value in keys.items() if value is not None}
    overrides |= parse_settings(settings_) | ({"full": True} if full else {})
    project = training_project(settings, recipe, data, {}, execution)
    if dry_run:
        plan = project.plan(archs, seeds=seeds, budget=budget, **overrides)
        if as_json:
            click.echo("[]")
        else:
            print_plan(plan)
        raise_errors(plan)
        return
    try:
        members = project.train(archs, seeds=seeds, budget=budget, retry=retry, **overrides)
    except MembersFailed as error:
        print_members(error.members, as_json)
        raise
    print_members(members, as_json)


def print_members(members: Any, as_json: bool) -> None:
    """Print the runs and their scores as JSON, or one id per line."""
    if as_json:
        click.echo(as_json_text(members.facts() if members else []))
    elif members:
        click.echo("\n".join(model.id for model in members))


def print_plan(plan: TrainingPlan) -> None:
    """Print a line for each run: id, kind, state and estimated duration."""
    from ensemble.training.jobs.estimate import format_duration

    for run in plan.runs:
        state = "complete" if run.complete else "to train"
        click.echo(f"{run.id}\t{run.kind}\t{state}" + (f"\t{format_duration(run.seconds)}" if run.seconds else ""))


def raise_errors(plan: TrainingPlan) -> None:
    """Raise the errors of members whose weights are unavailable, as training would."""
    from ensemble.api.training import Members, raise_failures

    raise_failures(plan.errors, Members(()))
