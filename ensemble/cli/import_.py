"""`ens import`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ensemble.cli import completion
from ensemble.cli.options import HomePath, data_settings, runs_options, runs_project
from ensemble.cli.terminal import Settings


@click.command(name="import")
@click.argument("name")
@click.option("--valid", type=HomePath(path_type=Path), required=True, help="Validation predictions: CSV or npz.")
@click.option("--test", type=HomePath(path_type=Path), help="Test predictions: CSV or npz.")
@click.option(
    "--arch",
    shell_complete=completion.names("ensemble.recipe.architectures:architectures"),
    help="The architecture it counts as. [default: one of its own]",
)
@click.option(
    "--targets-from",
    shell_complete=completion.runs,
    metavar="RUN",
    help="The run with the same ids to take the targets from.",
)
@runs_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(
    settings: Settings,
    name: str,
    valid: Path,
    test: Path | None,
    arch: str | None,
    targets_from: str | None,
    recipe: Path | None,
    data: Path | None,
    settings_: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make a run called NAME of predictions made elsewhere, and print its id.

    A CSV has the ids in its first column, a column of probabilities for each class, and perhaps a column
    called target or label.

    \b
    ens import swin --valid swin-valid.csv --test swin-test.csv --arch swin_t
    """
    project = runs_project(settings, recipe, data, data_settings(settings_))
    model = project.import_run(name, valid=valid, test=test, arch=arch, targets_from=targets_from)
    if as_json:
        click.echo(json.dumps({"run": model.id, **model.metrics}, indent=2, ensure_ascii=False))
    else:
        click.echo(model.id)
