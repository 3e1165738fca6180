"""A model as an HTTP service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ensemble.api.models import run_or_newest
from ensemble.core.errors import RecipeError, require

if TYPE_CHECKING:
    from ensemble.api.workspace import Workspace
    from ensemble.serve.predictor import Limits, Predictor


def serve(
    workspace: Workspace,
    source: str | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    coverage: float = 0.9,
    limits: Limits | None = None,
    hosts: Sequence[str] = (),
    started: Callable[[str, str], None] = lambda url, run: None,
) -> None:
    """Serve a run, or what `export` wrote, until the process is interrupted; by default the newest ensemble.

    port: 0 for any free one.  hosts: further names it is called by, as behind a proxy.
    started: called with the address and the run's id once requests are answered.
    Raises KeyboardInterrupt on Ctrl-C, after what was begun is finished.
    """
    require("a service", "fastapi", "uvicorn", "python_multipart")
    from ensemble.serve import app
    from ensemble.serve.predictor import Limits

    limits = limits or Limits()
    note = workspace.listener.note
    # before the networks, which take seconds to load
    with app.listening_socket(host, port) as bound:
        model = predictor(workspace, source, coverage)
        local = app.is_local(bound)
        if not local:
            note(
                "whoever reaches this machine can use it, without a password and unencrypted: put a proxy with both"
                " in front of it"
            )
        names = (*app.LOCAL, *hosts) if local or hosts else ("*",)
        facts, address = model.facts, app.url(bound)

        def ready() -> None:
            unsure = facts.calibration.warning if facts.calibration else facts.no_calibration
            if unsure:
                note(unsure)
            note(f"serving {facts.run} with {facts.engine}; Ctrl-C ends it")
            started(address, facts.run)

        service = app.create_app(model, limits, names)
        app.serve(service, bound, shutdown_timeout=2 * limits.seconds, idle_timeout=limits.seconds, on_start=ready)


def predictor(workspace: Workspace, source: str | None, coverage: float) -> Predictor:
    """The model behind `source`: an export, which needs no torch, or a run."""
    from ensemble.serve.onnx_predictor import is_export, load_export

    if source is not None and is_export(Path(source)):
        if workspace.device is not None:
            raise RecipeError("--device is for a run; an export computes on the CPU")
        return load_export(Path(source), coverage)
    from ensemble.combine.predicting_members import predicting_members

    members = predicting_members(run_or_newest(workspace, source))
    # after everything that can be wrong with the names: torch takes seconds to import
    from ensemble.serve.run_predictor import load_run
    from ensemble.training.engine.hardware import choose_device

    return load_run(members, choose_device(workspace.device), coverage)
