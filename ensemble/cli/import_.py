"""`ens import`."""

from __future__ import annotations

from pathlib import Path

import click

from ensemble.cli import completion
from ensemble.cli.current import Current
from ensemble.cli.options import HomePath, data_settings, runs_options
from ensemble.cli.terminal import Settings, note


@click.command(name="import")
@click.argument("name")
@click.option("--valid", type=HomePath(path_type=Path), required=True, help="Validation predictions: CSV or npz.")
@click.option("--test", type=HomePath(path_type=Path), help="Test predictions: CSV or npz.")
@click.option(
    "--arch", shell_complete=completion.archs, help="The architecture it counts as. [default: one of its own]"
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
    from ensemble.cli.terminal import load_with_progress
    from ensemble.runs.imports import import_run
    from ensemble.runs.origin import named_run

    here = Current(settings.runs, recipe, data, data_settings(settings_))
    made = import_run(
        name,
        folder=settings.runs,
        valid=valid,
        test=test,
        arch=arch,
        targets_from=named_run(settings.runs, targets_from) if targets_from else None,
        dataset=lambda: None if here.spec is None or here.gone else load_with_progress(here.spec, settings.runs),
    )
    for line in made.notes:
        note(line)
    if made.matched is not None:
        note(f"its ids are those of {made.matched}: same data set, targets compared or taken from there")
    elif not made.labelled:
        note("no targets: neither in the file nor in a run with the same ids; --targets-from names one")
    if as_json:
        import json

        click.echo(json.dumps({"run": made.run.id, **made.run.metrics}, indent=2, ensure_ascii=False))
    else:
        click.echo(made.run.id)
