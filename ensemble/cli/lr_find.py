"""`ens lr-find`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ensemble.cli import completion
from ensemble.cli.options import HomePath, data_options, parse_settings, say_source
from ensemble.cli.terminal import Settings, note
from ensemble.cli.train import chosen_members


@click.command()
@click.option(
    "--arch",
    "archs",
    multiple=True,
    shell_complete=completion.archs,
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
    import json

    from ensemble.cli.terminal import load_with_progress

    overrides = {key: value for key, value in keys.items() if value is not None} | parse_settings(settings_)
    found = chosen_members(archs, recipe, data, [], overrides | {"folds": None, "full": False})
    say_source(found)
    dataset = load_with_progress(found.data, settings.runs)
    # after the data is known to be good: torch takes seconds to import
    from ensemble.training.engine.hardware import choose_device
    from ensemble.training.jobs.plan import Workshop, stores_folder
    from ensemble.training.jobs.preview import rate_curve, write_curve
    from ensemble.training.jobs.train import failure, plans

    jobs, errors = plans(found.members, dataset.fingerprint, settings.runs)
    workshop = Workshop(dataset, choose_device(device), stores_folder(settings.runs), note=note)
    results = []
    for job in jobs:
        curve = rate_curve(job, dataset, workshop)
        table, picture = write_curve(curve, (out or settings.runs / "lr-find") / job.path.name)
        results.append({"run": job.path.name, "lr": curve.suggestion, "why": curve.reason, "png": str(picture)})
        if not as_json:
            click.echo(f"{job.path.name}  {curve.suggestion:.2e}  ({curve.reason})  {table}  {picture}")
    if as_json:
        click.echo(json.dumps(results, indent=2))
    if errors:
        raise failure(errors, len(jobs))
