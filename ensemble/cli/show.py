"""`ens show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble.cli import completion
from ensemble.cli.options import HomePath, current, data_options, parse_settings, say_source
from ensemble.cli.terminal import Settings, as_json_text, note

if TYPE_CHECKING:
    from ensemble.recipe.schema import Recipe


@click.command()
@click.option("--augment", "policies", multiple=True, help="A policy, or a+b; one row each. [default: all]")
@click.option("--preprocess", "filters", multiple=True, help="A filter instead, or a+b; `all` for all.")
@click.option("--layers", type=click.IntRange(1), metavar="N", help="List the layers that `unfreeze: N` trains.")
@click.option(
    "--arch",
    shell_complete=completion.archs,
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
    from ensemble.cli.train import chosen_members

    overrides = parse_settings(settings_) | ({"image_size": image_size} if image_size else {})
    if layers:
        archs = (arch,) if arch else ()
        (member, *_) = chosen_members(archs, recipe, data, [], {"weights": "none", **overrides}).members
        _layers(member, layers, as_json)
        return
    found = current(recipe, data, overrides)
    if not found.members:  # nothing of a member but its size is looked at
        found = chosen_members(("resnet18",), recipe, data, [], overrides)
    say_source(found)
    kind = "preprocess" if filters else "augment"
    path = out or settings.runs / "show" / f"{kind}.png"
    shown = _sheet(settings, found.members[0], policies, filters, images, path)
    click.echo(as_json_text({"picture": str(path), kind: shown}) if as_json else str(path))


def _layers(member: Recipe, count: int, as_json: bool) -> None:
    from ensemble.cli.terminal import table
    from ensemble.core.table import millions
    from ensemble.models.layers import last_layers, last_parameters, layers
    from ensemble.models.network import build_network

    body, head = build_network(member, 2).children()
    chosen = last_layers(body, count)
    rows: list[list[Any]] = [
        [len(chosen) - at, name, type(module).__name__, str(tuple(module.weight.shape))]  # type: ignore[arg-type]
        for at, (name, module) in enumerate(chosen)
    ]
    header = ("from the end", "layer", "kind", "weight")
    named = [dict(zip(header, row, strict=True)) for row in rows]
    click.echo(as_json_text(named) if as_json else table(header, rows))
    trained = sum(parameter.numel() for parameter in last_parameters(body, count))
    total = sum(parameter.numel() for parameter in body.parameters())
    own = sum(parameter.numel() for parameter in head.parameters())
    note(
        f"{member.arch}: {len(chosen)} of {len(layers(body))} layers, {millions(trained)} of the body's"
        f" {millions(total)} parameters train, and the head ({millions(own)} for two classes)"
    )


def _sheet(
    settings: Settings, member: Recipe, policies: tuple[str, ...], filters: tuple[str, ...], count: int, out: Path
) -> list[str]:
    """Write the picture; the names of its rows."""
    import numpy as np

    from ensemble.cli.terminal import load_with_progress
    from ensemble.core.files import write_atomically
    from ensemble.data.preprocess import Square
    from ensemble.data.preprocess import filters as known_filters
    from ensemble.report import figures

    dataset = load_with_progress(member.data, settings.runs)
    train = dataset.splits["train"]
    # images of as many classes as there is room for
    order = np.argsort(train.targets, kind="stable")
    places = order[np.linspace(0, len(order) - 1, count).astype(int)]
    opened = [dataset.open_image(path) for path in train.paths[places].tolist()]
    assert member.image_size is not None
    if filters:
        names = ["none", *(known_filters.names() if "all" in filters else filters)]
        rows: dict[str, list[Any]] = {
            name: [
                Square(member.image_size, member.resize, () if name == "none" else tuple(name.split("+"))).of(image)
                for image in opened
            ]
            for name in names
        }
    else:
        from ensemble.training.jobs.preview import augmented
        from ensemble.training.methods.augment import policies as known_policies

        square = Square(member.image_size, member.resize, member.preprocess)
        pixels = np.stack([square.of(image) for image in opened])
        names = ["none", *(name for name in policies or known_policies.names() if name != "none")]
        rows = {name: list(augmented(pixels, name)) for name in names}
    title = f"{'filters' if filters else 'augmentation'} at {member.image_size} pixels"
    write_atomically(out, figures.sheet(rows, title))
    return list(rows)
