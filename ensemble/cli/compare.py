"""`ens compare`."""

from __future__ import annotations

from pathlib import Path

import click

from ensemble.cli import completion
from ensemble.cli.options import HomePath, data_settings, runs_options, runs_project
from ensemble.cli.terminal import Settings, as_json_text, markdown, note


@click.command()
@click.argument("runs", nargs=-1, shell_complete=completion.runs)
@runs_options
@click.option("--out", type=HomePath(path_type=Path), help="Where they go. [default: <runs>/compare]")
@click.option("--mistakes", type=click.IntRange(0), default=12, show_default=True, help="Images most surely wrong.")
@click.option("--no-figures", is_flag=True, help="Tables only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(
    settings: Settings,
    runs: tuple[str, ...],
    recipe: Path | None,
    data: Path | None,
    settings_: tuple[str, ...],
    out: Path | None,
    mistakes: int,
    no_figures: bool,
    as_json: bool,
) -> None:
    """Put runs side by side: tables, a conclusion from the numbers, and figures.

    Without run ids: every complete run of the data of ens.yaml, else of the newest run. Two runs are also compared
    class by class. Each run's own figures go into its folder.

    \b
    ens compare
    ens compare resnet34-1a2b3c4d densenet121-5e6f7a8b --out comparison
    """
    project = runs_project(settings, recipe, data, data_settings(settings_))
    compared = project.compare(runs or None, out=out, mistakes=mistakes, figures=not no_figures)
    if as_json:
        click.echo(as_json_text(compared.facts()))
    else:
        click.echo("\n".join(map(markdown, compared.texts)), nl=False)
    figures = "" if no_figures else f", and to the figures folder of {len(compared.sides)} runs"
    note(f"written to {compared.folder}{figures}")
