"""An ensemble as one torch module, and that module as an ONNX file."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ensemble.combine.predicting_members import PredictingMembers
from ensemble.core.errors import EnsError, abbreviated, one_line
from ensemble.core.predictions import Ints
from ensemble.data.preprocess import Preprocess
from ensemble.export.rules import Combined
from ensemble.export.session import OUTPUTS
from ensemble.inference.forward import normalised, views
from ensemble.inference.model import LoadedEnsemble, LoadedNetwork


class NetworkGraph(nn.Module):
    """One network with all that belongs to it: uint8 (n, 3, size, size) -> float32 (n, k).

    Normalised, seen in every view, the mean of their softmax; the classes in the order of `columns`.
    """

    def __init__(self, trained: LoadedNetwork, columns: Ints) -> None:
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


class EnsembleGraph(nn.Module):
    """For each of `squares` uint8 (n, size, size, 3) -> probabilities float32 (n, k), members float32 (n, u, k).

    members: those u that have a part in the answer, in the committee's order.
    """

    def __init__(self, loaded: LoadedEnsemble) -> None:
        super().__init__()
        found = loaded.predicting
        self.squares = loaded.squares
        self.places = [self.squares.index(trained.square) for trained in loaded.networks.values()]
        self.networks = nn.ModuleList(
            NetworkGraph(loaded.networks[run.id], found.columns(run)) for run in found.networks
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


def _rule(found: PredictingMembers) -> Combined:
    if found.ensemble is not None:
        return Combined(found.ensemble.rule, found.ensemble.params, found.ensemble.temperature, found.used)
    return Combined("uniform", {"weights": np.full(len(found.used), 1 / len(found.used))}, None, found.used)


def input_name(square: Preprocess) -> str:
    """What a graph calls the input of such squares: `squash224`, `pad32_smooth_grey`."""
    return "_".join([f"{square.resize}{square.size}", *square.filters])


OPSET = 20
"""The operators of ONNX 1.15 (2023), which onnxruntime has had since 1.17."""

ONE_FILE = 1_800_000_000
"""Bytes of weights; protobuf holds no message above 2 GB, and more weights lie in a file beside the graph."""


def write_onnx(
    loaded: LoadedEnsemble, path: Path, *, opset: int = OPSET, metadata: Mapping[str, str] | None = None
) -> None:
    """Write `path`, and `<path>.data` beside it where the weights are too large for one file.

    The ensemble is on the CPU. metadata: text that the file carries, beside the names of the classes.
    """
    graph = EnsembleGraph(loaded).eval()
    # two images, as the exporter takes a batch of one for a constant
    pixels = tuple(torch.zeros(2, one.size, one.size, 3, dtype=torch.uint8) for one in loaded.squares)
    batch = torch.export.Dim("n")
    with warnings.catch_warnings(), torch.no_grad(), _quiet(), _refusing(loaded):
        warnings.simplefilter("ignore")  # torch on what it is about to drop of itself
        program = torch.onnx.export(
            graph,
            pixels,
            dynamo=True,
            opset_version=opset,
            input_names=[input_name(one) for one in loaded.squares],
            output_names=list(OUTPUTS),
            dynamic_shapes=(({0: batch},) * len(pixels),),
            verbose=False,
        )
    assert program is not None
    classes = {"classes": json.dumps(loaded.predicting.classes, ensure_ascii=False)}
    program.model.metadata_props.update({**classes, **(metadata or {})})
    program.save(str(path), external_data=_bytes(graph) > ONE_FILE)


def _bytes(graph: torch.nn.Module) -> int:
    return sum(values.numel() * values.element_size() for values in graph.state_dict().values())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's log, which says what it does, step by step, is not for whoever exports a run."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)


@contextlib.contextmanager
def _refusing(loaded: LoadedEnsemble) -> Iterator[None]:
    """An operator that ONNX does not have is told with the architectures that may use it."""
    try:
        yield
    except torch.onnx.OnnxExporterError as error:
        archs = dict.fromkeys(trained.recipe.arch for trained in loaded.networks.values())
        first = str(error.__cause__ or error).strip().partition("\n")[0]
        raise EnsError(
            f"torch cannot write {abbreviated(archs)} as ONNX ({one_line(first)}); --verbose shows why"
        ) from error
