"""Whether an exported graph says what the run says, from the same pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ensemble.core.errors import EnsError, one_line
from ensemble.data.load import load_dataset
from ensemble.data.preprocess import Pixels, Preprocess
from ensemble.export.onnx_graph import input_name
from ensemble.export.session import OnnxModel
from ensemble.inference.model import LoadedEnsemble
from ensemble.runs.run import Run

BOUND = 1e-4
"""The largest difference of a probability that is let through."""

_BATCH = 8


@dataclass(frozen=True)
class Parity:
    """n images compared: the largest difference of a probability, and how many have the same first class.

    real: whether they were validation images; noise stands in where those are not there.
    """

    n: int
    difference: float
    same: int
    real: bool

    def __str__(self) -> str:
        kind = "validation images" if self.real else "images of noise"
        return (
            f"largest difference of a probability between torch and onnxruntime: {self.difference:.1e} on {self.n}"
            f" {kind}; the first class is the same for {self.same}"
        )


def compare(loaded: LoadedEnsemble, model: OnnxModel, pixels: dict[Preprocess, Pixels], real: bool) -> Parity:
    """Both on the same squares, uint8 (n, size, size, 3) for each that the networks take."""
    n = len(next(iter(pixels.values())))
    worst, same = 0.0, 0
    for start in range(0, n, _BATCH):
        some = {square: made[start : start + _BATCH] for square, made in pixels.items()}
        ours, theirs = loaded.output(some).probs, model.output({input_name(s): x for s, x in some.items()}).probs
        difference = float(np.abs(ours - theirs).max())
        worst = max(worst, difference if np.isfinite(difference) else np.inf)
        same += int((ours.argmax(1) == theirs.argmax(1)).sum())
    return Parity(n, worst, same, real)


def sample(loaded: LoadedEnsemble, count: int) -> tuple[dict[Preprocess, Pixels], str]:
    """The squares of `count` validation images from all over the set, or of noise, and why noise."""
    try:
        images, why = _valid_images(loaded.predicting.networks[0], loaded, count), ""
    except EnsError as error:
        images, why = _noise(count), one_line(error)
    return {square: np.stack([square.of(image) for image in images]) for square in loaded.squares}, why


def _valid_images(run: Run, loaded: LoadedEnsemble, count: int) -> list[Image.Image]:
    dataset = load_dataset(loaded.networks[run.id].recipe.data, run.path.parent)
    paths = dataset.splits["valid"].paths
    rows = np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int)
    return [dataset.open_image(path) for path in paths[rows].tolist()]


def _noise(count: int) -> list[Image.Image]:
    random = np.random.default_rng(0)
    coarse = [Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8)) for _ in range(count)]
    return [image.resize((256, 256), Image.Resampling.BICUBIC) for image in coarse]
