"""Comparison of an exported graph's probabilities with those of torch, on the same pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ensemble.core.errors import EnsError, one_line
from ensemble.data.load import load_dataset
from ensemble.data.preprocess import Pixels, Preprocess
from ensemble.export.exporters import PortableModel
from ensemble.export.onnx_graph import input_name
from ensemble.inference.model import LoadedEnsemble
from ensemble.runs.run import Run

BOUND = 1e-4
"""The largest difference of a probability that is accepted."""

_BATCH = 8


@dataclass(frozen=True)
class Parity:
    """The comparison of n images: the largest difference of a probability, the number with the same first class.

    real: whether they were validation images; noise is used where these are not available.
    """

    n: int
    difference: float
    same: int
    real: bool

    def __str__(self) -> str:
        kind = "validation images" if self.real else "images of noise"
        return (
            f"largest difference of a probability between torch and the export: {self.difference:.1e} on {self.n}"
            f" {kind}; the first class is the same for {self.same}"
        )


def compare(loaded: LoadedEnsemble, model: PortableModel, pixels: dict[Preprocess, Pixels], real: bool) -> Parity:
    """The parity on the given squares, uint8 (n, size, size, 3) for each input of the networks."""
    n = len(next(iter(pixels.values())))
    largest, same = 0.0, 0
    for start in range(0, n, _BATCH):
        batch = {square: images[start : start + _BATCH] for square, images in pixels.items()}
        expected, probs = (
            loaded.output(batch).probs,
            model.output({input_name(s): x for s, x in batch.items()}).probs,
        )
        difference = float(np.abs(expected - probs).max())
        largest = max(largest, difference if np.isfinite(difference) else np.inf)
        same += int((expected.argmax(1) == probs.argmax(1)).sum())
    return Parity(n, largest, same, real)


def sample(loaded: LoadedEnsemble, count: int) -> tuple[dict[Preprocess, Pixels], str]:
    """The squares of `count` evenly spaced validation images, or of noise, and the reason for noise."""
    try:
        images, noise_reason = _valid_images(loaded.predicting.networks[0], loaded, count), ""
    except EnsError as error:
        images, noise_reason = _noise(count), one_line(error)
    return {square: np.stack([square.of(image) for image in images]) for square in loaded.squares}, noise_reason


def _valid_images(run: Run, loaded: LoadedEnsemble, count: int) -> list[Image.Image]:
    dataset = load_dataset(loaded.networks[run.id].recipe.data, run.path.parent)
    paths = dataset.splits["valid"].paths
    rows = np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int)
    return [dataset.open_image(path) for path in paths[rows].tolist()]


def _noise(count: int) -> list[Image.Image]:
    generator = np.random.default_rng(0)
    coarse = [Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)) for _ in range(count)]
    return [image.resize((256, 256), Image.Resampling.BICUBIC) for image in coarse]
