"""`ens serve`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ensemble.cli import completion
from ensemble.cli.current import run_or_newest
from ensemble.cli.options import FiniteFloat, share
from ensemble.cli.terminal import Settings, note

if TYPE_CHECKING:
    from socket import socket

    from ensemble.serve.predictor import Limits, Predictor

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
    # systems that wait count milliseconds in 32 bits
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
    source: str | None,
    host: str,
    port: int,
    coverage: float,
    device: str | None,
    max_body: float,
    max_pixels: int,
    max_files: int,
    timeout: float,
    queue: int,
    batch: int,
    decoders: int,
    hosts: tuple[str, ...],
    as_json: bool,
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
    from ensemble.core.errors import require

    require("a service", "fastapi", "uvicorn", "python_multipart")
    from ensemble.serve import app
    from ensemble.serve.predictor import MEGABYTE, Limits

    limits = Limits(int(max_body * MEGABYTE), max_pixels, max_files, timeout, queue, batch, decoders)
    # before the networks, which take seconds to load
    with app.listening(host, port) as bound:
        predictor = _predictor(settings, source, coverage, device)
        return _serve(predictor, limits, bound, hosts, as_json)


def _predictor(settings: Settings, source: str | None, coverage: float, device: str | None) -> Predictor:
    from ensemble.serve.onnx_predictor import is_export, load_export

    if source is not None and is_export(Path(source)):
        if device is not None:
            raise click.UsageError("--device is for a run; an export computes on the CPU")
        return load_export(Path(source), coverage)
    from ensemble.combine.predicting_members import committee

    found = committee(run_or_newest(settings, source))
    # after everything that can be wrong with the names: torch takes seconds to import
    from ensemble.serve.run_predictor import load_run
    from ensemble.training.engine.hardware import choose_device

    return load_run(found, choose_device(device), coverage)


def _serve(
    predictor: Predictor, limits: Limits, bound: socket, hosts: tuple[str, ...], as_json: bool
) -> int | None:
    from ensemble.serve import app
    from ensemble.serve.app import LOCAL, create_app

    local = app.is_local(bound)
    if not local:
        note(
            "whoever reaches this machine can use it, without a password and unencrypted: put a proxy with both in"
            " front of it"
        )
    names = (*LOCAL, *hosts) if local or hosts else ("*",)
    facts, address = predictor.facts, app.url(bound)

    def started() -> None:
        unsure = facts.calibration.warning if facts.calibration else facts.no_calibration
        if unsure:
            note(unsure)
        note(f"serving {facts.run} with {facts.engine}; Ctrl-C ends it")
        click.echo(json.dumps({"url": address, "run": facts.run}) if as_json else address)

    try:
        service, seconds = create_app(predictor, limits, names), limits.seconds
        app.serve(service, bound, seconds=2 * seconds, patience=seconds, started=started)
    except KeyboardInterrupt:
        note("stopped")
        return 130
    return None
