"""A model exported: a folder or zip that predicts without this package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ensemble.core.errors import RecipeError

if TYPE_CHECKING:
    from ensemble.api.workspace import Workspace
    from ensemble.export.parity import Parity
    from ensemble.runs.run import Run


@dataclass(frozen=True)
class ExportedModel:
    """What `export` wrote.

    run: the id of the model.  path: the folder or zip.  parity: how near it is to torch.
    left_out: members that weigh nothing.
    """

    run: str
    path: Path
    parity: Parity
    left_out: tuple[str, ...]


def export(
    workspace: Workspace,
    run: Run,
    *,
    out: Path | None = None,
    zip: Path | None = None,
    format: str = "onnx",
    opset: int | None = None,
) -> ExportedModel:
    """As Model.export. Raises RecipeError for both out and zip, DataError for a rule without a graph."""
    from ensemble.combine.predicting_members import predicting_members
    from ensemble.core.errors import abbreviated
    from ensemble.export.exporters import exporters

    if out is not None and zip is not None:
        raise RecipeError("both --out and --zip found; name one")
    members = predicting_members(run)
    exporters.get(format).check_modules()
    # after everything that can be wrong with the names: torch takes seconds to import
    from ensemble.export.bundle import export as exported
    from ensemble.export.onnx_graph import OPSET
    from ensemble.inference.model import load_ensemble

    folder = None if zip else out or workspace.runs_folder / "exports" / members.run.id
    listener = workspace.listener
    with listener:
        bundle = exported(
            load_ensemble(members, "cpu"),
            folder=folder,
            zip=zip,
            format=format,
            opset=opset or OPSET,
            on_progress=listener.progress,
        )
    if bundle.noise_reason:
        listener.note(f"no validation images to compare on ({bundle.noise_reason})")
    left_out = tuple(member.run.id for j, member in enumerate(members.members) if j not in members.used)
    if left_out:
        listener.note(f"left out, as they weigh nothing: {abbreviated(left_out)}")
    listener.note(str(bundle.parity))
    return ExportedModel(members.run.id, bundle.path, bundle.parity, left_out)
