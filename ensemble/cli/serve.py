"""`ens serve`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ensemble.cli import completion
from ensemble.cli.options import Execution, FiniteFloat, runs_project, share
from ensemble.cli.terminal import Settings, note

if TYPE_CHECKING:
    from ensemble.serve.predictor import Limits

_positive = FiniteFloat(0.001)


@click.command()
@click.argument("source", metavar="[RUN]", required=False, shell_complete=completion.runs)
@click.option("--host", default="127.0.0.1", show_default=True, help="Who can reach it: 0.0.0.0 for everybody.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free one.")
@click.option("--coverage", type=share, default=0.9, show_default=True, help="How often a set holds the truth.")
@click.option("--device", help="cpu, cuda, cuda:1, mps; of a run only. [default: the best there is]")
@click.option("--max-body", type=_positive, default=32, show_default=True, help="Megabytes of a request.")
@click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=50_000_000,
    show_default=True,
    help="Of an image; the recipe's if less.",
)
@click.option("--max-files", type=click.IntRange(1), default=16, show_default=True, help="Images of a request.")
@click.option(
    "--timeout",
    # the poll functions of operating systems take milliseconds as 32-bit integers
    type=FiniteFloat(0.001, 86_400),
    default=30,
    show_default=True,
    help="Seconds to receive, to decode an image; twice that for an answer.",
)
@click.option(
    "--queue",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    help="Requests at a time; others are told to come again.",
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Images that go through the networks together.",
)
@click.option(
    "--decoders", type=click.IntRange(1), default=2, show_default=True, help="Processes that decode images."
)
@click.option("--allow-host", "hosts", multiple=True, help="A name it is called by, as behind a proxy.")
@click.option("--json", "as_json", is_flag=True, help="Print the address as JSON.")
@click.pass_obj
def command(
    settings: Settings,
    /,
    source: str | None,
    host: str,
    port: int,
    coverage: float,
    device: str | None,
    hosts: tuple[str, ...],
    as_json: bool,
    **limits: Any,
) -> int | None:
    """Serve RUN - a member, an ensemble, or what `ens export` wrote - over HTTP, with a page.

    Without RUN: the newest ensemble.

    POST /predict (images as multipart), POST /explain (Grad-CAM), GET /model, /health, /openapi.json, and a page
    at /. Nothing is kept of an image. An export is served without torch. Ctrl-C finishes what was begun.

    \b
    ens serve ensemble-1a2b3c4d
    ens serve ensemble-1a2b3c4d.zip --port 9000
    curl -F images=@photo.jpg http://127.0.0.1:8000/predict
    """
    from ensemble.api.serving import serve
    from ensemble.core.errors import require

    require("a service", "fastapi", "uvicorn", "python_multipart")

    def started(url: str, run: str) -> None:
        click.echo(json.dumps({"url": url, "run": run}) if as_json else url)

    project = runs_project(settings, execution=Execution(device))
    try:
        serve(
            project,
            source,
            host=host,
            port=port,
            coverage=coverage,
            limits=_limits(**limits),
            hosts=hosts,
            started=started,
        )
    except KeyboardInterrupt:
        note("stopped")
        return 130
    return None


def _limits(
    max_body: float, max_pixels: int, max_files: int, timeout: float, queue: int, batch: int, decoders: int
) -> Limits:
    from ensemble.serve.predictor import MEGABYTE, Limits

    return Limits(int(max_body * MEGABYTE), max_pixels, max_files, timeout, queue, batch, decoders)
