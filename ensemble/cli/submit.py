"""`ens submit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble.cli import completion
from ensemble.cli.options import HomePath, NamedOption, data_settings, runs_options, runs_project
from ensemble.cli.terminal import Settings, note

if TYPE_CHECKING:
    from ensemble.api.combining import SubmittedFile


@click.command()
@click.argument("run", required=False, shell_complete=completion.runs)
@click.option(
    "--format", cls=NamedOption, registry="ensemble.submit.formats:formats", help="{names}. [default: kaggle]"
)
@click.option(
    "--sample", type=HomePath(), help="A sample submission: its columns, its spelling of the ids, its order."
)
@click.option("--out", type=HomePath(), help="The file to write. [default: submissions/RUN.csv]")
@click.option("--zip/--no-zip", default=None, help="Write a zip that holds the file.")
@click.option("--positive", help="The class whose probability a single column holds.")
@click.option(
    "--fill",
    metavar="uniform|prior|CLASS",
    help="Write the rows that are missing, of images that cannot be read or ids that only the sample has: uniform"
    " is 1/k for each of k classes, prior the shares of the classes in the labelled validation rows of RUN, CLASS"
    " is that class.",
)
@click.option("--split", default="test", show_default=True, help="The test set: test, or test-NAME.")
@click.option(
    "--upload",
    metavar="kaggle:COMPETITION",
    help="Print the command that hands the file in; with --yes, run it.",
)
@click.option("--yes", is_flag=True, help="Run what --upload prints.")
@runs_options
@click.option("--json", "as_json", is_flag=True, help="Print the sidecar.")
@click.pass_obj
def command(
    settings: Settings,
    /,
    run: str | None,
    recipe: Path | None,
    data: Path | None,
    settings_: tuple[str, ...],
    split: str,
    upload: str | None,
    yes: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Check the test predictions of RUN, by default the newest ensemble, and write the file to upload.

    Predictions of other test images than are there now are refused, with what to type.

    \b
    ens submit --format kaggle
    ens submit --format kaggle-probs --sample sample_submission.csv --out mine.csv
    ens submit --sample sample_submission.csv --fill prior
    ens submit --upload kaggle:digit-recognizer --yes
    """
    from ensemble.submit.upload import competition, run_upload, upload_of

    if yes and upload is None:
        raise click.UsageError("--yes is for --upload kaggle:COMPETITION")
    name = competition(upload, runs=yes) if upload else None  # errors are raised before anything is written
    project = runs_project(settings, recipe, data, data_settings(settings_))
    submitted = project.submit(run, split=split, **options)
    if name is None:
        click.echo(_json(submitted) if as_json else str(submitted.path))
        return
    upload_command = upload_of(submitted.submission, submitted.run, name)
    if not as_json:
        click.echo(f"{submitted.path}\n{upload_command.line}")
    if yes:
        note(run_upload(upload_command))
    if as_json:
        click.echo(_json(submitted, upload={"command": upload_command.arguments, "run": yes}))


def _json(submitted: SubmittedFile, **more: Any) -> str:
    import json

    return json.dumps({**submitted.facts(), **more}, indent=2, ensure_ascii=False)
