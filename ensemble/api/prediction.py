"""Predicting images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble.core.errors import DataError
from ensemble.core.predictions import Floats, Wide
from ensemble.core.table import Cell, Table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image as PillowImage

    from ensemble.api.workspace import Workspace
    from ensemble.combine.calibration import Conformal
    from ensemble.combine.predicting_members import PredictingMembers
    from ensemble.data.inputs import NamedImage
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
        from ensemble.report.html import fragment

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
                # each by itself, so that a file that is given twice has two rows
                named = [image for word in group for image in named_images([str(word)])]
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
