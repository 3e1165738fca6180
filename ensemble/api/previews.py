"""Before training: the curve of the learning-rate finder, augmented images, the layers that train."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble.api.plans import chosen_members
from ensemble.api.source import note_digits
from ensemble.core.table import Table, millions

if TYPE_CHECKING:
    from ensemble.api.workspace import Workspace
    from ensemble.recipe.schema import ResolvedRecipe


@dataclass(frozen=True)
class RateCurve:
    """The finder's curve of a run. rates, losses: of each step, the losses smoothed.  lr: the suggestion, and why.

    csv, png: where it was written.
    """

    run: str
    lr: float
    why: str
    rates: Sequence[float]
    losses: Sequence[float]
    csv: Path
    png: Path


def lr_find(
    workspace: Workspace,
    archs: Sequence[str],
    *,
    seeds: Sequence[int] = (),
    out: Path | None = None,
    computed: Callable[[RateCurve], None] = lambda curve: None,
    **keys: Any,
) -> list[RateCurve]:
    """As Project.lr_find. Raises MembersFailed once the other curves are written."""
    file = chosen_members(workspace, archs, seeds, {**keys, "folds": None, "full": False})
    note_digits(file, workspace.listener)
    dataset = workspace.load(file.data)
    # after the data is known to be good: torch takes seconds to import
    from ensemble.training.engine.hardware import choose_device
    from ensemble.training.jobs.plan import TrainingContext, cache_folder
    from ensemble.training.jobs.preview import rate_curve, write_curve
    from ensemble.training.jobs.train import failure, plans

    jobs, errors = plans(file.members, dataset.fingerprint, workspace.runs_folder)
    folder = workspace.runs_folder
    context = TrainingContext(
        dataset, choose_device(workspace.device), cache_folder(folder), listener=workspace.listener
    )
    curves = []
    for job in jobs:
        curve = rate_curve(job, dataset, context)
        csv, png = write_curve(curve, (out or folder / "lr-find") / job.path.name)
        curves.append(RateCurve(job.path.name, curve.suggestion, curve.reason, curve.rates, curve.losses, csv, png))
        computed(curves[-1])
    if errors:
        raise failure(errors, len(jobs))
    return curves


@dataclass(frozen=True)
class Preview:
    """A picture of augmented or filtered images. kind: augment or preprocess.  rows: the policies or filters."""

    picture: Path
    kind: str
    rows: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {"picture": str(self.picture), self.kind: list(self.rows)}

    def _repr_png_(self) -> bytes:
        return self.picture.read_bytes()


def show(
    workspace: Workspace,
    *,
    augment: Sequence[str] = (),
    preprocess: Sequence[str] = (),
    images: int = 6,
    out: Path | None = None,
    **keys: Any,
) -> Preview:
    """Draw augmentation policies, or filters, on images of every class; all policies unless some are named."""
    file = workspace.recipe(**keys)
    if not file.members:  # of a member only its image size matters
        file = chosen_members(workspace, ("resnet18",), (), keys)
    note_digits(file, workspace.listener)
    kind = "preprocess" if preprocess else "augment"
    path = out or workspace.runs_folder / "show" / f"{kind}.png"
    return Preview(path, kind, tuple(_sheet(workspace, file.members[0], augment, preprocess, images, path)))


def layers(workspace: Workspace, count: int, arch: str | None = None, **keys: Any) -> Table:
    """The layers that `unfreeze: count` trains, the last last; a note says how many parameters that are."""
    archs = (arch,) if arch else ()
    (member, *_) = chosen_members(workspace, archs, (), {"weights": "none", **keys}).members
    from ensemble.models.layers import last_layers, last_parameters
    from ensemble.models.layers import layers as all_layers
    from ensemble.models.network import build_network

    body, head = build_network(member, 2).children()
    chosen = last_layers(body, count)
    rows: list[list[Any]] = [
        [len(chosen) - at, name, type(module).__name__, str(tuple(module.weight.shape))]  # type: ignore[arg-type]
        for at, (name, module) in enumerate(chosen)
    ]
    trained = sum(parameter.numel() for parameter in last_parameters(body, count))
    total = sum(parameter.numel() for parameter in body.parameters())
    own = sum(parameter.numel() for parameter in head.parameters())
    workspace.listener.note(
        f"{member.arch}: {len(chosen)} of {len(all_layers(body))} layers, {millions(trained)} of the body's"
        f" {millions(total)} parameters train, and the head ({millions(own)} for two classes)"
    )
    return Table(("from the end", "layer", "kind", "weight"), rows)


def _sheet(
    workspace: Workspace,
    member: ResolvedRecipe,
    policies: Sequence[str],
    filters: Sequence[str],
    count: int,
    out: Path,
) -> Mapping[str, list[Any]]:
    """Write the picture; its rows by name."""
    import numpy as np

    from ensemble.core.files import write_atomically
    from ensemble.data.preprocess import Preprocess
    from ensemble.data.preprocess import filters as known_filters
    from ensemble.report import figures

    dataset = workspace.load(member.data)
    train = dataset.splits["train"]
    # images of as many classes as there is room for
    order = np.argsort(train.targets, kind="stable")
    places = order[np.linspace(0, len(order) - 1, count).astype(int)]
    opened = [dataset.open_image(path) for path in train.paths[places].tolist()]
    assert member.image_size is not None
    if filters:
        names = ["none", *(known_filters.names() if "all" in filters else filters)]
        rows: dict[str, list[Any]] = {
            name: [
                Preprocess(member.image_size, member.resize, () if name == "none" else tuple(name.split("+"))).of(
                    image
                )
                for image in opened
            ]
            for name in names
        }
    else:
        from ensemble.training.jobs.preview import augmented
        from ensemble.training.methods.augment import policies as known_policies

        square = Preprocess(member.image_size, member.resize, member.preprocess)
        pixels = np.stack([square.of(image) for image in opened])
        names = ["none", *(name for name in policies or known_policies.names() if name != "none")]
        rows = {name: list(augmented(pixels, name)) for name in names}
    title = f"{'filters' if filters else 'augmentation'} at {member.image_size} pixels"
    write_atomically(out, figures.sheet(rows, title))
    return rows
