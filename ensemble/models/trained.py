"""The trained network of a run, with all that its predictions need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ensemble.data.pixels import Pixels, Square
from ensemble.errors import DataError
from ensemble.inference import normalised
from ensemble.models.network import Network, build_network
from ensemble.models.weights import load_weights
from ensemble.recipe.file import read_recipe_file
from ensemble.recipe.schema import Recipe
from ensemble.runs.run import Run


@dataclass(frozen=True)
class Trained:
    """network: in eval mode, in float32.  mean, std: of each channel, for pixels between 0 and 1."""

    network: Network
    recipe: Recipe
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def square(self) -> Square:
        """What is made of every image."""
        assert self.recipe.image_size is not None
        return Square(self.recipe.image_size, self.recipe.resize, self.recipe.preprocess)

    def normalised(self, pixels: Pixels, device: torch.device) -> Tensor:
        """One square, uint8 (size, size, 3), as the network takes it: float32 (1, 3, size, size)."""
        x = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None]
        return normalised(x.to(device), self.mean, self.std)


def load_trained(run: Run, device: torch.device) -> Trained:
    """The network of a complete member, fold or refit. Raises DataError for a run that has none, or other bytes."""
    path = run.path / "recipe.yaml"
    if not path.is_file() or not (run.path / "weights.safetensors").is_file():
        raise DataError(f"{run.id} is of kind {run.kind} and has no network of its own; name one of its members")
    (recipe,) = read_recipe_file(path).members
    facts = run.facts
    network = build_network(recipe, len(facts["classes"]), None)
    load_weights(network, run.path / "weights.safetensors", facts["files"]["weights"])
    network.to(device).eval()
    return Trained(network, recipe, tuple(facts["classes"]), tuple(facts["mean"]), tuple(facts["std"]))
