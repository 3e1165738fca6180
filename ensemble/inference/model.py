"""Trained networks loaded from runs, and their combined predictions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ensemble.combine.predicting_members import EnsembleOutput, PredictingMembers, mean_of, member_disagreement
from ensemble.core.errors import DataError, MismatchedRuns
from ensemble.core.predictions import Floats, Ints, Wide
from ensemble.data.images import Colour, read_image
from ensemble.data.inputs import NamedImage
from ensemble.data.preprocess import Pixels, Preprocess, preprocess_of
from ensemble.inference.forward import normalised, predict
from ensemble.inference.image_batches import prefetched
from ensemble.models.network import Network, build_network
from ensemble.models.state_dict import load_weights
from ensemble.recipe.file import read_recipe_file
from ensemble.recipe.schema import ResolvedRecipe
from ensemble.runs.run import Run


@dataclass(frozen=True)
class LoadedNetwork:
    """network: in eval mode, in float32.  mean, std: of each channel, for pixels between 0 and 1."""

    network: Network
    recipe: ResolvedRecipe
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def square(self) -> Preprocess:
        """The preprocessing of every image."""
        return preprocess_of(self.recipe)

    def normalised(self, pixels: Pixels, device: torch.device) -> Tensor:
        """One square, uint8 (size, size, 3), as the network's input: float32 (1, 3, size, size)."""
        x = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None]
        return normalised(x.to(device), self.mean, self.std)


def load_network(run: Run, device: torch.device) -> LoadedNetwork:
    """The network of a complete member, fold or refit. Raises DataError where there is none or it is damaged."""
    path = run.path / "recipe.yaml"
    if not path.is_file() or not (run.path / "weights.safetensors").is_file():
        raise DataError(f"{run.id} is of kind {run.kind} and has no network of its own; name one of its members")
    (recipe,) = read_recipe_file(path).members
    record = run.record
    network = build_network(recipe, len(record.classes), None)
    load_weights(network, run.path / "weights.safetensors", record.weights_sha256 or "")
    network.to(device).eval()
    return LoadedNetwork(network, recipe, record.classes, *record.normalisation)


CHUNK = 256
"""Images that are decoded together, while the networks compute the previous ones."""

Inputs = dict[Preprocess, Pixels]


@dataclass(frozen=True)
class BatchResult:
    """An output on the readable images, and why the others are unreadable.

    images: the n images of the output.  unreadable: one line each, which names the file.
    disagreement: float64 (n,), in nats; None where only one member has a weight.
    """

    images: tuple[NamedImage, ...]
    output: EnsembleOutput
    disagreement: Wide | None
    unreadable: tuple[str, ...]


@dataclass(frozen=True)
class LoadedEnsemble:
    """A run's members, and the networks, by run id, of the members that contribute to its output."""

    predicting: PredictingMembers
    networks: Mapping[str, LoadedNetwork]
    device: torch.device

    @property
    def squares(self) -> tuple[Preprocess, ...]:
        """The distinct preprocessings of every image."""
        return tuple(sorted({trained.square for trained in self.networks.values()}))

    @property
    def background(self) -> Colour | None:
        """The background of transparent pixels. Raises MismatchedRuns where it differs between members."""
        backgrounds = {trained.recipe.data.background for trained in self.networks.values()}
        if len(backgrounds) > 1:
            raise MismatchedRuns(
                f"the members of {self.predicting.run.id} were trained with different data.background; combine"
                " members that were trained with one"
            )
        return backgrounds.pop()

    @property
    def max_pixels(self) -> int:
        """The largest number of pixels of an image that the recipes allow."""
        return max(trained.recipe.data.max_pixels for trained in self.networks.values())

    @property
    def medical(self) -> bool:
        """Whether a recipe marks the images as medical."""
        return any(trained.recipe.data.medical for trained in self.networks.values())

    def output(self, pixels: Mapping[Preprocess, Pixels]) -> EnsembleOutput:
        """The run's output for n images. pixels: for each of `squares` uint8 (n, size, size, 3)."""
        m, k, n = len(self.predicting.members), len(self.predicting.classes), len(next(iter(pixels.values())))
        probs = {id: self._member_probs(trained, pixels[trained.square]) for id, trained in self.networks.items()}
        members = np.full((m, n, k), 1 / k, np.float32)
        for j in self.predicting.used:
            member = self.predicting.members[j]
            parts = [probs[run.id][:, self.predicting.columns(run)] for run in member.networks]
            members[j] = parts[0] if len(parts) == 1 else mean_of(np.stack(parts))
        return EnsembleOutput(self.predicting.combined(members), members)

    def _member_probs(self, trained: LoadedNetwork, pixels: Pixels) -> Floats:
        def batch(rows: Ints) -> torch.Tensor:
            return torch.from_numpy(pixels[rows]).permute(0, 3, 1, 2)

        rows = np.arange(len(pixels))
        network, tta = trained.network, trained.recipe.tta
        probs, _ = predict(network, batch, rows, mean=trained.mean, std=trained.std, tta=tta)
        return probs

    def batch_results(self, images: Sequence[NamedImage], *, chunk: int = CHUNK) -> Iterator[BatchResult]:
        """The run's outputs for image files, `chunk` at a time, in their order; each file is decoded once."""
        read = partial(read_image, max_pixels=self.max_pixels, background=self.background)
        starts = range(0, len(images), chunk)

        def preprocessed(image: NamedImage) -> Inputs | DataError:
            try:
                decoded_image = read(image.path)
            except DataError as error:
                return error
            return {square: square.of(decoded_image) for square in self.squares}

        def chunks() -> Iterator[list[Inputs | DataError]]:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                for start in starts:
                    yield list(pool.map(preprocessed, images[start : start + chunk]))

        for start, inputs in zip(starts, prefetched(chunks, 1), strict=True):
            yield self._batch_result(images[start : start + chunk], inputs)

    def _batch_result(self, images: Sequence[NamedImage], inputs: Sequence[Inputs | DataError]) -> BatchResult:
        readable = [
            (image, pixels) for image, pixels in zip(images, inputs, strict=True) if isinstance(pixels, dict)
        ]
        unreadable = tuple(str(pixels) for pixels in inputs if isinstance(pixels, DataError))
        k, m = len(self.predicting.classes), len(self.predicting.members)
        output = EnsembleOutput(np.zeros((0, k), np.float32), np.zeros((m, 0, k), np.float32))
        if readable:
            output = self.output(
                {square: np.stack([pixels[square] for _, pixels in readable]) for square in self.squares}
            )
        disagreement = member_disagreement(output.members, self.predicting.weights)
        return BatchResult(tuple(image for image, _ in readable), output, disagreement, unreadable)


def load_ensemble(predicting: PredictingMembers, device: torch.device | str) -> LoadedEnsemble:
    """The networks of a run on `device`. Raises DataError where one is missing or damaged."""
    device = torch.device(device)
    loaded = LoadedEnsemble(predicting, {run.id: load_network(run, device) for run in predicting.networks}, device)
    for run in predicting.networks:
        predicting.columns(run)
    _ = loaded.background
    return loaded
