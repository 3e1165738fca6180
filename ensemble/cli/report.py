"""`ens report`."""

from __future__ import annotations

from pathlib import Path

import click

from ensemble.cli import completion
from ensemble.cli.options import Execution, HomePath, data_settings, runs_options, runs_project
from ensemble.cli.terminal import Settings, note

PICTURES = 12


@click.command()
@click.argument("run", required=False, shell_complete=completion.runs)
@runs_options
@click.option(
    "--out", type=HomePath(dir_okay=False, path_type=Path), help="The page. [default: <runs>/report/NAME.html]"
)
@click.option(
    "--pictures", type=click.IntRange(0), default=PICTURES, show_default=True, help="Mistakes that are shown."
)
@click.option(
    "--explain/--no-explain",
    default=True,
    help="Draw where the networks looked in them (Grad-CAM), where their weights are. [default: explain]",
)
@click.option("--device", help="For Grad-CAM: cpu, cuda, cuda:1, mps. [default: the best there is]")
@click.option("--json", "as_json", is_flag=True, help="Print the path and the main numbers as JSON.")
@click.pass_obj
def command(
    settings: Settings,
    run: str | None,
    recipe: Path | None,
    data: Path | None,
    settings_: tuple[str, ...],
    out: Path | None,
    pictures: int,
    explain: bool,
    device: str | None,
    as_json: bool,
) -> None:
    """Write one HTML page on RUN, or on every run of a data set and its newest ensemble.

    Without RUN and --recipe: the runs of ens.yaml, else those of the newest run's data. The page asks for nothing
    from anywhere, so that it can be sent, printed and kept.

    \b
    ens report
    ens report ensemble-1a2b3c4d --out report.html
    ens report --recipe recipes/isic-codabench.yaml --no-explain
    """
    from ensemble.core.files import json_text

    project = runs_project(settings, recipe, data, data_settings(settings_), Execution(device))
    page = project.report(run, out=out, pictures=pictures, explain=explain)
    if as_json:
        click.echo(json_text(page.facts()), nl=False)
    else:
        click.echo("\n".join([*page.sentences, *(f"! {line}" for line in page.warnings)]))
    note(f"written to {page.path}")
