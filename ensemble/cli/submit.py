"""`ens submit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble.cli import completion
from ensemble.cli.current import Current
from ensemble.cli.options import HomePath, data_settings, runs_options
from ensemble.cli.terminal import Settings, note

if TYPE_CHECKING:
    from ensemble.recipe.schema import DataSpec
    from ensemble.runs.run import Run
    from ensemble.submit.submission import Submission


@click.command()
@click.argument("run", required=False, shell_complete=completion.runs)
@click.option(
    "--format", shell_complete=completion.formats, help="kaggle, kaggle-probs or codabench. [default: kaggle]"
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
    name = competition(upload, runs=yes) if upload else None  # a mistake is told before anything is written
    here = Current(settings.runs, recipe, data, data_settings(settings_))
    written = submit_run(settings, here, run, split=split, **options)
    if name is None:
        click.echo(_json(written) if as_json else str(written.path))
        return
    sent = upload_of(written, named_run_of(settings, written), name)
    if not as_json:
        click.echo(f"{written.path}\n{sent.line}")
    if yes:
        note(run_upload(sent))
    if as_json:
        click.echo(_json(written, upload={"command": sent.arguments, "run": yes}))


def named_run_of(settings: Settings, written: Submission) -> Run:
    """The run that was submitted."""
    from ensemble.runs.origin import named_run

    return named_run(settings.runs, str(written.facts["run"]))


def submit_run(
    settings: Settings,
    here: Current,
    name: str | None,
    *,
    split: str = "test",
    fill: str | None = None,
    **options: Any,
) -> Submission:
    """Submit the run called `name`, or the newest ensemble of the data set; say what should be known.

    fill: what rows hold that are missing.  options: keys of the recipe's `submit` that win over it; None leaves
    the recipe's.
    """
    from ensemble.combine.candidates import newest_ensemble
    from ensemble.recipe.schema import SubmitSpec
    from ensemble.runs.origin import named_run
    from ensemble.submit.submission import submit

    if name is None:
        run = newest_ensemble(settings.runs, here.fingerprint, here.name)
        note(f"submitting {run.id}, the newest ensemble of {here.name}")
    else:
        run = named_run(settings.runs, name)
    asked = {key: value for key, value in options.items() if value is not None}
    spec = (here.file.submit if here.has_settings else SubmitSpec()).model_copy(update=asked)
    data = here.spec_for(run) if name else here.spec
    written = submit(
        run,
        spec,
        out=Path(spec.out) if spec.out else None,
        sample=Path(spec.sample) if spec.sample else None,
        split=split,
        unnamed=_unnamed_class(data or here.spec),
        fill=fill,
        data=data,
    )
    for line in _notes(written):
        note(line)
    return written


def _unnamed_class(data: DataSpec | None) -> str | None:
    return None if data is None else data.unnamed_class


def _notes(written: Submission) -> list[str]:
    facts = written.facts
    lines = [
        *written.notes,
        f"{facts['rows']} rows, columns {', '.join(facts['columns'][:12])}; facts in {written.sidecar}",
    ]
    for metric, score in (facts.get("honest") or {}).items():
        of = f", of {facts['score_of']}" if "score_of" in facts else ""
        if score["value"] is None:
            continue
        known = score["low"] is not None and score["high"] is not None
        bounds = f"95% interval {score['low']:.4f} to {score['high']:.4f}" if known else "no interval is known"
        lines.append(f"expect {metric} {score['value']:.4f} ({bounds}{of})")
    if facts.get("chosen_on_valid"):
        chosen = ", ".join(facts["chosen_on_valid"])
        lines.append(f"chosen on the validation rows before: {chosen}; the score does not cover that")
    return lines


def facts_of(written: Submission) -> dict[str, Any]:
    """The path and the sidecar."""
    return {"path": str(written.path), **written.facts}


def _json(written: Submission, **more: Any) -> str:
    import json

    return json.dumps({**facts_of(written), **more}, indent=2, ensure_ascii=False)
