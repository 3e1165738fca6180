"""Predicting images, heat maps, and exports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble.core.errors import DataError, RecipeError
from ensemble.core.predictions import Floats, Wide
from ensemble.core.registry import did_you_mean
from ensemble.core.table import Cell, Table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image as PillowImage

    from ensemble.api.workspace import Workspace
    from ensemble.combine.calibration import Conformal
    from ensemble.combine.predicting_members import PredictingMembers
    from ensemble.data.inputs import NamedImage
    from ensemble.export.parity import Parity
    from ensemble.inference.model import BatchResult, LoadedEnsemble
    from ensemble.runs.run import Run

    Image = str | Path | PillowImage.Image | npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PredictedBatch:
    """A batch of predictions.

    names: of the n images.  probs: (n, k).  entropy, disagreement: float64 (n,) in nats; None where they were not
    asked for, disagreement also where one member predicts.  sets: bool (n, k), the conformal sets, or None.
    unreadable: a line for each image of the batch that cannot be read.
    """

    names: tuple[str, ...]
    probs: Floats
    entropy: Wide | None = None
    disagreement: Wide | None = None
    sets: npt.NDArray[np.bool_] | None = None
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class PredictedImages:
    """The predictions of n images.

    classes: (k,).  top: how many classes the table shows; None for all.
    names, probs, entropy, disagreement, sets, unreadable: as in PredictedBatch.
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    probs: Floats
    top: int | None = None
    entropy: Wide | None = None
    disagreement: Wide | None = None
    sets: npt.NDArray[np.bool_] | None = None
    unreadable: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def labels(self) -> list[str]:
        """The most probable class of each image; ties go to the class that comes first."""
        return [self.classes[place] for place in self.probs.argmax(axis=1)]

    def table(self) -> Table:
        """The columns that `ens predict` writes, with numbers as numbers."""
        import numpy as np

        from ensemble.report.prediction_output import Layout

        uncertain = self.entropy is not None
        order = np.argsort(-self.probs, axis=1, kind="stable")
        rows: list[list[Cell]] = []
        for i, name in enumerate(self.names):
            best = order[i, : self.top or 1]
            row: list[Cell] = [name]
            for c in best:
                row += [self.classes[c], float(self.probs[i, c])]
            if self.entropy is not None:
                row += [float(self.entropy[i]), None if self.disagreement is None else float(self.disagreement[i])]
                kept = [] if self.sets is None else [self.classes[c] for c in order[i] if self.sets[i, c]]
                row.append(", ".join(kept))
            rows.append([*row, *([] if self.top else map(float, self.probs[i]))])
        return Table(Layout(self.classes, self.top, "jsonl", uncertain).columns, rows)

    def frame(self) -> Any:
        """The table as a pandas DataFrame."""
        return self.table().frame()

    def __repr__(self) -> str:
        return self.table().text()

    def _repr_html_(self) -> str:
        from ensemble.report.fragments import fragment

        return fragment("Predictions", [], self.table(), [f"left out: {line}" for line in self.unreadable])


@dataclass(frozen=True)
class Predictor:
    """A model loaded to predict.

    loaded: its networks.  likely: its conformal sets where uncertainty is asked for.
    """

    loaded: LoadedEnsemble
    uncertain: bool = False
    likely: Conformal | None = None

    def batches(self, images: Sequence[NamedImage]) -> Iterator[PredictedBatch]:
        """The predictions of image files in their order, many at a time; each is decoded once for all members."""
        for answer in self.loaded.batch_results(images):
            yield self._batch(answer)

    def of_pixels(self, images: Sequence[tuple[str, PillowImage.Image]]) -> PredictedBatch:
        """The predictions of RGB images that are in memory."""
        import numpy as np

        from ensemble.combine.predicting_members import member_disagreement
        from ensemble.inference.model import BatchResult

        pixels = {square: np.stack([square.of(image) for _, image in images]) for square in self.loaded.squares}
        output = self.loaded.output(pixels)
        unlike = member_disagreement(output.members, self.loaded.predicting.weights)
        return self._batch(BatchResult((), output, unlike, ()), tuple(name for name, _ in images))

    def _batch(self, answer: BatchResult, names: tuple[str, ...] | None = None) -> PredictedBatch:
        from ensemble.metrics.classification import entropy

        names = tuple(image.name for image in answer.images) if names is None else names
        probs = answer.output.probs
        if not self.uncertain:
            return PredictedBatch(names, probs, unreadable=answer.unreadable)
        sets = None if self.likely is None else self.likely.sets(probs)
        return PredictedBatch(names, probs, entropy(probs), answer.disagreement, sets, answer.unreadable)


def predictor(
    workspace: Workspace,
    run: Run,
    *,
    uncertain: bool = False,
    coverage: float = 0.9,
    before: Callable[[PredictingMembers], None] | None = None,
) -> Predictor:
    """The networks of a model, loaded. before: called with its members before torch is imported."""
    from ensemble.combine.predicting_members import calibration, predicting_members

    members = predicting_members(run)
    if before is not None:
        before(members)
    likely = None
    if uncertain:
        reliability = calibration(members, coverage)
        for line in filter(None, (str(reliability), reliability.warning)):
            workspace.listener.note(line)
        likely = reliability.sets
    # after everything that can be wrong with the names: torch takes seconds to import
    from ensemble.inference.model import load_ensemble
    from ensemble.training.engine.hardware import choose_device

    return Predictor(load_ensemble(members, choose_device(workspace.device)), uncertain, likely)


def predict(
    workspace: Workspace,
    run: Run,
    images: Image | Sequence[Image],
    *,
    top: int | None = None,
    uncertain: bool = False,
    coverage: float = 0.9,
) -> PredictedImages:
    """As Model.predict."""
    import numpy as np

    from ensemble.data.inputs import named_images

    given = _listed(images)
    if not given:
        raise DataError("an empty list of images found; name a file, a folder or a pattern")
    loaded = predictor(workspace, run, uncertain=uncertain, coverage=coverage)
    batches: list[PredictedBatch] = []
    with workspace.listener as listener:
        for group in _grouped(given):
            if isinstance(group[0], (str, Path)):
                named = named_images([str(word) for word in group])
                for done, batch in enumerate(loaded.batches(named)):
                    batches.append(batch)
                    listener.progress("predicting", done + 1, None)
            else:
                first = sum(len(batch.names) for batch in batches)
                pixels = [(f"image {first + at}", _rgb(image)) for at, image in enumerate(group)]
                batches.append(loaded.of_pixels(pixels))
    unreadable = tuple(line for batch in batches for line in batch.unreadable)
    names = tuple(name for batch in batches for name in batch.names)
    if not names:
        raise DataError(f"none of {len(unreadable)} images can be read; the first: {unreadable[0]}")
    for line in unreadable:
        workspace.listener.note(f"left out: {line}")
    return PredictedImages(
        loaded.loaded.predicting.classes,
        names,
        np.concatenate([batch.probs for batch in batches]),
        top,
        _joined([batch.entropy for batch in batches]),
        _joined([batch.disagreement for batch in batches]),
        _joined([batch.sets for batch in batches]),
        unreadable,
    )


def _joined(parts: Sequence[Any]) -> Any:
    import numpy as np

    return None if any(part is None for part in parts) else np.concatenate(parts)


def _listed(images: Any) -> list[Any]:
    if isinstance(images, (str, Path)) or hasattr(images, "convert"):
        return [images]
    if getattr(images, "ndim", None) == 3:
        return [images]
    return list(images)


def _grouped(images: Sequence[Any]) -> Iterator[list[Any]]:
    """Neighbours that are names, and neighbours that are pixels, so that the order is kept."""
    group: list[Any] = []
    for image in images:
        if group and isinstance(image, (str, Path)) != isinstance(group[0], (str, Path)):
            yield group
            group = []
        group.append(image)
    yield group


def _rgb(image: Any) -> PillowImage.Image:
    """An image in memory as RGB. Raises DataError for an array of another shape or type."""
    import numpy as np
    from PIL import Image as pillow

    if isinstance(image, pillow.Image):
        return image.convert("RGB")
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise DataError(
            f"an array {array.dtype} {array.shape} found, uint8 (height, width, 3) or (height, width) expected"
        )
    return pillow.fromarray(array).convert("RGB")


@dataclass(frozen=True, repr=False)
class Explanation:
    """Heat maps (Grad-CAM) of images.

    picture: the PNG.  images: for each its name, the class asked about and the probability of every class.
    """

    run: str
    picture: Path
    images: tuple[dict[str, Any], ...] = field(default_factory=tuple)

    def facts(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {"run": self.run, "picture": str(self.picture), "images": list(self.images)}

    def __repr__(self) -> str:
        return f"Explanation({str(self.picture)!r}, {len(self.images)} images)"

    def _repr_png_(self) -> bytes:
        return self.picture.read_bytes()


def explain(
    workspace: Workspace, run: Run, images: Sequence[str], *, class_name: str | None = None, out: Path | None = None
) -> Explanation:
    """As Model.explain. Raises RecipeError for an unknown class, DataError where there is no such image."""
    from PIL import Image as pillow

    from ensemble.core.files import write_atomically
    from ensemble.report import figures
    from ensemble.report.sections.mistakes import opener

    classes = list(run.facts.get("classes") or ())
    if class_name is not None and class_name not in classes:
        raise RecipeError(f"unknown class {class_name!r}{did_you_mean(class_name, classes)}")
    open_image = opener(run, workspace.load_quietly)
    pictures = [(name, open_image(name)) for name in images]
    # after everything that can be wrong with the names: torch takes seconds to import
    from ensemble.inference.gradcam import grad_cam, why_no_map
    from ensemble.inference.model import load_network
    from ensemble.training.engine.hardware import choose_device

    device = choose_device(workspace.device)
    trained = load_network(run, device)
    if why := why_no_map(trained.network, trained.square.size):
        raise DataError(f"{run.id} ({trained.recipe.arch}) cannot be explained: {why}")
    shown: list[tuple[pillow.Image, str]] = []
    results: list[dict[str, Any]] = []
    index = None if class_name is None else classes.index(class_name)
    for name, image in pictures:
        pixels = trained.square.of(image)
        cam, probs = grad_cam(trained.network, trained.normalised(pixels, device), index)
        about = class_name or classes[int(probs.argmax())]
        likely = sorted(zip(probs.tolist(), classes, strict=True), reverse=True)[:3]
        shown.append((pillow.fromarray(pixels), Path(name).name))
        caption = "\n".join(f"{label} {share:.3f}" for share, label in likely)
        shown.append((figures.overlaid(pixels, cam.numpy()), f"{about}?\n{caption}"))
        results.append({"image": name, "class": about, "probs": dict(zip(classes, probs.tolist(), strict=True))})
    path = out or run.path / "figures" / "gradcam.png"
    write_atomically(path, figures.gallery(shown, f"{run.id}: Grad-CAM"))
    return Explanation(run.id, path, tuple(results))


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
    workspace: Workspace, run: Run, *, out: Path | None = None, zip: Path | None = None, opset: int | None = None
) -> ExportedModel:
    """As Model.export. Raises RecipeError for both out and zip, DataError for a rule without a graph."""
    from ensemble.combine.predicting_members import predicting_members
    from ensemble.core.errors import abbreviated
    from ensemble.export.session import check_extra

    if out is not None and zip is not None:
        raise RecipeError("both --out and --zip found; name one")
    members = predicting_members(run)
    check_extra()
    # after everything that can be wrong with the names: torch takes seconds to import
    from ensemble.export.bundle import export as exported
    from ensemble.export.onnx_graph import OPSET
    from ensemble.inference.model import load_ensemble

    folder = None if zip else out or workspace.runs_folder / "exports" / members.run.id
    listener = workspace.listener
    with listener:
        made = exported(
            load_ensemble(members, "cpu"),
            folder=folder,
            zip=zip,
            opset=opset or OPSET,
            on_progress=listener.progress,
        )
    if made.noise_reason:
        listener.note(f"no validation images to compare on ({made.noise_reason})")
    left_out = tuple(member.run.id for j, member in enumerate(members.members) if j not in members.used)
    if left_out:
        listener.note(f"left out, as they weigh nothing: {abbreviated(left_out)}")
    listener.note(str(made.parity))
    return ExportedModel(members.run.id, made.path, made.parity, left_out)
