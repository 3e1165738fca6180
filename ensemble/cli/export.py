"""`ens export`."""

from __future__ import annotations

from pathlib import Path

import click

from ensemble.cli import completion
from ensemble.cli.options import HomePath, NamedOption, runs_project
from ensemble.cli.terminal import Settings, as_json_text


@click.command()
@click.argument("run", required=False, shell_complete=completion.runs)
@click.option("--out", type=HomePath(path_type=Path), help="The folder. [default: <runs>/exports/RUN]")
@click.option("--zip", "archive", type=HomePath(path_type=Path), help="A zip file instead of a folder.")
@click.option(
    "--format",
    cls=NamedOption,
    registry="ensemble.export.exporters:exporters",
    default="onnx",
    show_default=True,
    help="One of {names}.",
)
@click.option(
    "--opset", type=click.IntRange(18, 23), default=20, show_default=True, help="ONNX's set of operators."
)
@click.option("--json", "as_json", is_flag=True, help="Print where it is and how near to torch as JSON.")
@click.pass_obj
def command(
    settings: Settings,
    run: str | None,
    out: Path | None,
    archive: Path | None,
    format: str,
    opset: int,
    as_json: bool,
) -> None:
    """Write RUN, a member or an ensemble, as a folder or zip that predicts without this package and without torch.

    Without RUN: the newest ensemble.

    model.onnx (normalisation, every member at its own size, views, rule, temperature), predict.py (needs
    onnxruntime, numpy and Pillow), README.md (a model card), config.json. Compared with torch on validation
    images before it is put in its place.

    \b
    ens export ensemble-1a2b3c4d
    ens export resnet34-5e6f7a8b --zip resnet34.zip
    """
    from ensemble.api.models import Model, run_or_newest

    if out is not None and archive is not None:
        raise click.UsageError("both --out and --zip found; name one")
    project = runs_project(settings)
    exported = Model(project, run_or_newest(project, run)).export(out=out, zip=archive, format=format, opset=opset)
    facts = {
        "run": exported.run,
        "path": str(exported.path),
        "parity": vars(exported.parity),
        "left_out": list(exported.left_out),
    }
    click.echo(as_json_text(facts) if as_json else str(exported.path))
