"""A panel as one torch module: from squares of pixels to probabilities."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ensemble.combine.committee import Committee
from ensemble.data.pixels import Square
from ensemble.export.rules import Combined
from ensemble.inference import normalised, views
from ensemble.models.panel import Panel
from ensemble.models.trained import Trained
from ensemble.predictions import Ints


class NetworkGraph(nn.Module):
    """One network with all that belongs to it: uint8 (n, 3, size, size) -> float32 (n, k).

    Normalised, seen in every view, the mean of their softmax; the classes in the order of `columns`.
    """

    def __init__(self, trained: Trained, columns: Ints) -> None:
        super().__init__()
        # not the Network itself, whose forward decides about formats and counts batches
        self.layers = nn.Sequential(*trained.network.children())
        self.mean, self.std, self.views = trained.mean, trained.std, views.get(trained.recipe.tta)
        self.columns = None if columns.tolist() == list(range(len(columns))) else torch.from_numpy(columns)

    def forward(self, pixels: Tensor) -> Tensor:
        x = normalised(pixels, self.mean, self.std)
        # the views as one batch: the network is in the graph once
        seen = torch.cat([view(x) for view in self.views])
        probs = self.layers(seen).float().double().softmax(1)
        mean: Tensor = probs.reshape(len(self.views), -1, probs.shape[1]).mean(0).float()
        return mean if self.columns is None else mean[:, self.columns]


class PanelGraph(nn.Module):
    """For each of `squares` uint8 (n, size, size, 3) -> probabilities float32 (n, k), members float32 (n, u, k).

    members: those u that have a part in the answer, in the committee's order.
    """

    def __init__(self, panel: Panel) -> None:
        super().__init__()
        found = panel.committee
        self.squares = panel.squares
        self.places = [self.squares.index(trained.square) for trained in panel.networks.values()]
        self.networks = nn.ModuleList(
            NetworkGraph(panel.networks[run.id], found.columns(run)) for run in found.networks
        )
        order = [run.id for run in found.networks]
        self.members = [[order.index(run.id) for run in found.members[j].networks] for j in found.used]
        self.rule = _rule(found)

    def forward(self, *pixels: Tensor) -> tuple[Tensor, Tensor]:
        first = [one.permute(0, 3, 1, 2) for one in pixels]
        said = [network(first[place]) for network, place in zip(self.networks, self.places, strict=True)]
        members = torch.stack([_mean([said[at] for at in member]) for member in self.members], 1)
        return self.rule(members), members


def _mean(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.stack(parts).double().mean(0).float()


def _rule(found: Committee) -> Combined:
    if found.ensemble is not None:
        return Combined(found.ensemble.rule, found.ensemble.params, found.ensemble.temperature, found.used)
    return Combined("uniform", {"weights": np.full(len(found.used), 1 / len(found.used))}, None, found.used)


def input_name(square: Square) -> str:
    """What a graph calls the input of such squares: `squash224`, `pad32_smooth_grey`."""
    return "_".join([f"{square.resize}{square.size}", *square.filters])
