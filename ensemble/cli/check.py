"""`ens check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ensemble.cli import completion
from ensemble.cli.options import HomePath, data_options, data_settings, training_project
from ensemble.cli.terminal import Settings, note

if TYPE_CHECKING:
    from ensemble.api.checking import CheckedData

PICTURES = 24


@click.command()
@data_options
@click.option(
    "--set",
    "settings_",
    multiple=True,
    shell_complete=completion.keys,
    metavar="data.KEY=VALUE",
    help="A key of the recipe's data.",
)
@click.option(
    "--out", type=HomePath(dir_okay=False, path_type=Path), help="The page. [default: <runs>/check/NAME.html]"
)
@click.option(
    "--pictures", type=click.IntRange(0), default=PICTURES, show_default=True, help="Of each sort on the page."
)
@click.option("--pairs", type=HomePath(dir_okay=False, path_type=Path), help="A CSV of every pair of copies.")
@click.option("--groups", type=HomePath(dir_okay=False, path_type=Path), help="A CSV of what to keep in one fold.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_obj
def command(
    settings: Settings,
    recipe: Path | None,
    data: Path | None,
    settings_: tuple[str, ...],
    out: Path | None,
    pictures: int,
    pairs: Path | None,
    groups: Path | None,
    as_json: bool,
) -> None:
    """Look at the data before any training: counts, odd files, copies, leaks between splits, labels.

    Copies are exact (the same bytes), near (encoded again, resized, slightly cropped, brighter) or mirrored. Later
    `ens train` warns of what leaks, and `ens ls` shows it.

    \b
    ens check
    ens check --data photos --pairs pairs.csv
    ens check --recipe recipes/isic-codabench.yaml --json
    """
    from ensemble.core.files import json_text

    files = [path for path in (out, pairs, groups) if path]
    if len(set(files)) < len(files):
        raise click.UsageError("--out, --pairs and --groups name the same file; each needs its own")
    project = training_project(settings, recipe, data, data_settings(settings_))

    def show(result: CheckedData) -> None:
        click.echo(json_text(result.facts()) if as_json else result.text(), nl=False)

    # print the result before writing files, which may fail
    checked = project.check(out=out, pictures=pictures, pairs=pairs, groups=groups, computed=show)
    note("written to " + ", ".join(str(path) for path in checked.files))
