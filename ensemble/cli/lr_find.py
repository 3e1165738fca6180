"""`ens lr-find`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble.cli import completion
from ensemble.cli.options import Execution, HomePath, data_options, parse_settings, training_project
from ensemble.cli.terminal import Settings

if TYPE_CHECKING:
    from ensemble.api.previews import RateCurve


@click.command()
@click.option(
    "--arch",
    "archs",
    multiple=True,
    shell_complete=completion.names("ensemble.recipe.architectures:architectures"),
    help="An architecture; may be given several times.",
)
@data_options
@click.option("--image-size", type=int, help="Pixels a side.")
@click.option("--batch-size", type=int, help="Images a batch.")
@click.option("--seed", type=int, help="The seed.")
@click.option("--weights", help="`imagenet`, `none`, or a file.")
@click.option(
    "--set",
    "settings_",
    multiple=True,
    shell_complete=completion.keys,
    metavar="KEY=VALUE",
    help="Any other key of a recipe.",
)
@click.option("--device", help="cpu, cuda, cuda:1, mps. [default: the best there is]")
@click.option("--out", type=HomePath(path_type=Path), help="A folder for CSV and PNG. [default: <runs>/lr-find]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(
    settings: Settings,
    /,
    archs: tuple[str, ...],
    recipe: Path | None,
    data: Path | None,
    settings_: tuple[str, ...],
    device: str | None,
    out: Path | None,
    as_json: bool,
    **keys: Any,
) -> None:
    """Draw the learning-rate finder's curve (CSV and PNG) and print its suggestion.

    \b
    ens lr-find --arch densenet121
    ens lr-find --recipe recipes/cifar10.yaml --out curves
    """
    from ensemble.core.errors import MembersFailed

    overrides = {key: value for key, value in keys.items() if value is not None} | parse_settings(settings_)
    project = training_project(settings, recipe, data, {}, Execution(device))
    curves: list[RateCurve] = []

    def computed(curve: RateCurve) -> None:
        curves.append(curve)
        if not as_json:
            click.echo(f"{curve.run}  {curve.lr:.2e}  ({curve.why})  {curve.csv}  {curve.png}")

    try:
        project.lr_find(archs, out=out, computed=computed, **overrides)
    except MembersFailed:
        _print_json(curves, as_json)
        raise
    _print_json(curves, as_json)


def _print_json(curves: Sequence[RateCurve], as_json: bool) -> None:
    if as_json:
        rows = [{"run": curve.run, "lr": curve.lr, "why": curve.why, "png": str(curve.png)} for curve in curves]
        click.echo(json.dumps(rows, indent=2))
