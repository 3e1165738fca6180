"""`ens submit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble.cli.context import Settings, note
from ensemble.cli.options import current, data_options

if TYPE_CHECKING:
    from ensemble.recipe.file import RecipeFile
    from ensemble.submit.submission import Submission


@click.command()
@click.argument("run", required=False)
@click.option("--format", help="kaggle, kaggle-probs or codabench. [default: kaggle]")
@click.option("--sample", help="A sample submission: its columns, its spelling of the ids, its order.")
@click.option("--out", help="The file to write. [default: submissions/RUN.csv]")
@click.option("--zip/--no-zip", default=None, help="Write a zip that holds the file.")
@click.option("--positive", help="The class whose probability a single column holds.")
@click.option("--split", default="test", show_default=True, help="The test set: test, or test-NAME.")
@data_options
@click.option("--json", "as_json", is_flag=True, help="Print the sidecar.")
@click.pass_obj
def command(
    settings: Settings,
    /,
    run: str | None,
    recipe: Path | None,
    data: Path | None,
    split: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Check the test predictions of RUN, by default the newest ensemble, and write the file to upload.

    \b
    ens submit --format kaggle
    ens submit --format kaggle-probs --sample sample_submission.csv --out mine.csv
    """
    submit_and_print(settings, current(recipe, data), run, split=split, as_json=as_json, **options)


def submit_and_print(
    settings: Settings,
    found: RecipeFile,
    name: str | None,
    *,
    split: str = "test",
    as_json: bool = False,
    **options: Any,
) -> Submission:
    """Submit the run called `name`, or the newest ensemble of the data set; print the path of the file.

    options: keys of the recipe's `submit` that win over it; None leaves the recipe's.
    """
    from ensemble.combine.candidates import newest_ensemble
    from ensemble.runs.run import named_run
    from ensemble.submit.submission import submit

    if name is None:
        from ensemble.data.load import current_fingerprint

        run = newest_ensemble(settings.runs, current_fingerprint(found.data, settings.runs))
        note(f"submitting {run.id}, the newest ensemble of {found.source}")
    else:
        run = named_run(settings.runs, name)
    asked = {key: value for key, value in options.items() if value is not None}
    spec = found.submit.model_copy(update=asked)
    written = submit(
        run,
        spec,
        out=Path(spec.out) if spec.out else None,
        sample=Path(spec.sample) if spec.sample else None,
        split=split,
        unnamed=found.data.unnamed_class,
    )
    for line in _notes(written):
        note(line)
    click.echo(_json(written) if as_json else str(written.path))
    return written


def _notes(written: Submission) -> list[str]:
    facts = written.facts
    lines = [
        *written.notes,
        f"{facts['rows']} rows, columns {', '.join(facts['columns'][:12])}; facts in {written.sidecar}",
    ]
    for metric, score in (facts.get("honest") or {}).items():
        of = f", of {facts['score_of']}" if "score_of" in facts else ""
        bounds = f"{score['low']:.4f} to {score['high']:.4f}"
        lines.append(f"expect {metric} {score['value']:.4f} (95% interval {bounds}{of})")
    if facts.get("chosen_on_valid"):
        chosen = ", ".join(facts["chosen_on_valid"])
        lines.append(f"chosen on the validation rows before: {chosen}; the score does not cover that")
    return lines


def _json(written: Submission) -> str:
    import json

    return json.dumps({"path": str(written.path), **written.facts}, indent=2, ensure_ascii=False)
