"""`ens sweep`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble.cli import completion
from ensemble.cli.options import (
    Execution,
    HomePath,
    parse_settings,
    set_option,
    track_options,
    training_project,
    with_execution,
)
from ensemble.cli.terminal import Settings, as_json_text, markdown, note
from ensemble.cli.train import print_plan, raise_errors
from ensemble.core.errors import RecipeError, abbreviated

if TYPE_CHECKING:
    from ensemble.api.sweeping import Sweep


@click.command()
@click.argument("recipe", type=HomePath(path_type=Path), required=False)
@click.option(
    "--grid",
    "grids",
    shell_complete=completion.keys,
    multiple=True,
    metavar="KEY=V1,V2,...",
    help="Values of a key; the last key's are the columns.",
)
@click.option(
    "--search",
    "ranges",
    multiple=True,
    shell_complete=completion.keys,
    metavar="KEY=LOW:HIGH[:log]",
    help="A range for a guided search.",
)
@click.option("--trials", type=click.IntRange(1), help="Members that a guided search trains. [default: 20]")
@click.option(
    "--metric",
    shell_complete=completion.names("ensemble.metrics:metrics"),
    help="What the table shows. [default: the recipe's, else accuracy]",
)
@click.option("--seed", "seeds", type=int, multiple=True, help="A seed; several give mean and deviation.")
@click.option("--data", type=HomePath(path_type=Path), help="A folder of images, instead of the recipe's.")
@set_option
@click.option("--device", help="cpu, cuda, cuda:1, mps. [default: the best there is]")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Members trained at the same time.")
@click.option("--retry", is_flag=True, help="Train runs again that failed.")
@click.option("--dry-run", is_flag=True, help="List the cells and how long they take, and stop.")
@click.option(
    "--out", type=HomePath(path_type=Path), help="A folder for the table. [default: <runs>/sweeps/<name>]"
)
@track_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
@with_execution
def command(
    settings: Settings,
    recipe: Path | None,
    grids: tuple[str, ...],
    ranges: tuple[str, ...],
    trials: int | None,
    metric: str | None,
    seeds: tuple[int, ...],
    data: Path | None,
    settings_: tuple[str, ...],
    retry: bool,
    dry_run: bool,
    out: Path | None,
    as_json: bool,
    execution: Execution,
) -> None:
    """Train a recipe for every combination of values, and print the table; without values, of its members.

    What is complete is not trained again, so a stopped sweep goes on, and a larger one keeps what it has. The table
    is saved as Markdown, CSV and a picture.

    \b
    ens sweep recipes/benign-malignant-grid.yaml
    ens sweep recipe.yaml --grid augment=none,flip-hv,brightness --grid unfreeze=2,4,6,8,10 --seed 0 --seed 1
    ens sweep recipe.yaml --search lr=0.0001:0.1:log --search dropout=0:0.7 --trials 20
    """
    from ensemble.core.errors import MembersFailed

    project = training_project(settings, recipe, data, parse_settings(settings_), execution)
    options: dict[str, Any] = {
        "grid": _values(grids),
        "search": _ranges(ranges),
        "trials": trials,
        "metric": metric,
        "seeds": seeds,
    }
    if dry_run:
        from ensemble.api.sweeping import plan_sweep

        plan = plan_sweep(project, **options)
        print_plan(plan)
        raise_errors(plan)
        return
    try:
        result = project.sweep(**options, retry=retry, out=out)
    except MembersFailed as error:
        if error.sweep is not None:
            _print(error.sweep, as_json)
        raise
    _print(result, as_json)


def _print(sweep: Sweep, as_json: bool) -> None:
    click.echo(as_json_text(sweep.facts()) if as_json else markdown(sweep.markdown()), nl=as_json)
    if best := sweep.best():
        note(f"best: {abbreviated(best)}")


def _values(grids: Sequence[str]) -> dict[str, list[Any]]:
    values: dict[str, list[Any]] = {}
    for grid in grids:
        ((key, grid_values),) = parse_settings([grid], "--grid").items()
        # in YAML, `none,flip` is a string, `[none, flip]` a list, `2` a number
        if not isinstance(grid_values, list):
            grid_values = parse_settings([f"{key}=[{grid.partition('=')[2]}]"], "--grid")[key]
        values[key] = grid_values
    return values


def _ranges(ranges: Sequence[str]) -> dict[str, list[Any]]:
    values: dict[str, list[Any]] = {}
    for range_text in ranges:
        key, _, text = range_text.partition("=")
        parts = text.split(":")
        try:
            values[key.strip()] = [float(parts[0]), float(parts[1]), *parts[2:]]
        except (ValueError, IndexError):
            raise RecipeError(f"--search {range_text!r} found, key=low:high or key=low:high:log expected") from None
    return values
