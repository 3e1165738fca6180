"""`ens show`."""

from __future__ import annotations

from pathlib import Path

import click

from ensemble.cli import completion
from ensemble.cli.options import HomePath, data_options, parse_settings, training_project
from ensemble.cli.terminal import Settings, as_json_text, table


@click.command()
@click.option("--augment", "policies", multiple=True, help="A policy, or a+b; one row each. [default: all]")
@click.option("--preprocess", "filters", multiple=True, help="A filter instead, or a+b; `all` for all.")
@click.option("--layers", type=click.IntRange(1), metavar="N", help="List the layers that `unfreeze: N` trains.")
@click.option(
    "--arch",
    shell_complete=completion.names("ensemble.recipe.architectures:architectures"),
    help="The architecture whose layers are listed. [default: the recipe's]",
)
@data_options
@click.option("--image-size", type=int, help="Pixels a side.")
@click.option("--images", type=click.IntRange(1, 12), default=6, show_default=True, help="Images a row.")
@click.option(
    "--set",
    "settings_",
    multiple=True,
    shell_complete=completion.keys,
    metavar="KEY=VALUE",
    help="Any other key of a recipe.",
)
@click.option("--out", type=HomePath(path_type=Path), help="The PNG. [default: in <runs>/show]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(
    settings: Settings,
    policies: tuple[str, ...],
    filters: tuple[str, ...],
    layers: int | None,
    arch: str | None,
    recipe: Path | None,
    data: Path | None,
    image_size: int | None,
    images: int,
    settings_: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """Draw augmentation policies or filters on your own images, or list the layers that `unfreeze: N` trains.

    \b
    ens show                                        # every policy, on images of every class
    ens show --augment flip-hv --augment flip+brightness --data photos
    ens show --preprocess hair --preprocess hair+lesion --data photos
    ens show --layers 4 --arch mobilenet_v2
    """
    from ensemble.api.previews import layers as layers_of
    from ensemble.api.previews import show

    overrides = parse_settings(settings_) | ({"image_size": image_size} if image_size else {})
    project = training_project(settings, recipe, data, {})
    if layers:
        rows = layers_of(project, layers, arch, **overrides)
        click.echo(as_json_text(rows.records()) if as_json else table(rows.columns, rows.rows))
        return
    drawing = show(project, augment=policies, preprocess=filters, images=images, out=out, **overrides)
    click.echo(as_json_text(drawing.facts()) if as_json else str(drawing.picture))
