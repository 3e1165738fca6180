"""An ensemble as one torch module, and the export of that module as an ONNX file."""

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
from ensemble.export import OUTPUTS
from ensemble.export.rules import Combined
from ensemble.inference.forward import normalised, views
from ensemble.inference.model import LoadedEnsemble, LoadedNetwork


class NetworkGraph(nn.Module):
    """One network with its pre- and post-processing: uint8 (n, 3, size, size) -> float32 (n, k).

    Normalisation, test-time augmentation, mean of the softmax over the views; classes in the order of `columns`.
    """

    def __init__(self, trained: LoadedNetwork, columns: Ints) -> None:
        super().__init__()
        # not the Network itself, whose forward selects formats and counts batches
        self.layers = nn.Sequential(*trained.network.children())
        self.mean, self.std, self.views = trained.mean, trained.std, views.get(trained.recipe.tta)
        self.columns = None if columns.tolist() == list(range(len(columns))) else torch.from_numpy(columns)

    def forward(self, pixels: Tensor) -> Tensor:
        x = normalised(pixels, self.mean, self.std)
        # the views form one batch, so that the network is in the graph only once
        augmented = torch.cat([view(x) for view in self.views])
        probs = self.layers(augmented).float().double().softmax(1)
        mean: Tensor = probs.reshape(len(self.views), -1, probs.shape[1]).mean(0).float()
        return mean if self.columns is None else mean[:, self.columns]


class EnsembleGraph(nn.Module):
    """For each of `squares` uint8 (n, size, size, 3) -> probabilities float32 (n, k), members float32 (n, u, k).

    members: the u members that contribute to the output, in the order of the ensemble.
    """

    def __init__(self, loaded: LoadedEnsemble) -> None:
        super().__init__()
        predicting = loaded.predicting
        self.squares = loaded.squares
        self.input_indices = [self.squares.index(trained.square) for trained in loaded.networks.values()]
        self.networks = nn.ModuleList(
            NetworkGraph(loaded.networks[run.id], predicting.columns(run)) for run in predicting.networks
        )
        order = [run.id for run in predicting.networks]
        self.members = [[order.index(run.id) for run in predicting.members[j].networks] for j in predicting.used]
        self.rule = _rule(predicting)

    def forward(self, *pixels: Tensor) -> tuple[Tensor, Tensor]:
        channels_first = [square.permute(0, 3, 1, 2) for square in pixels]
        probs = [
            network(channels_first[index]) for network, index in zip(self.networks, self.input_indices, strict=True)
        ]
        members = torch.stack([_mean([probs[position] for position in member]) for member in self.members], 1)
        return self.rule(members), members


def _mean(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.stack(parts).double().mean(0).float()


def _rule(predicting: PredictingMembers) -> Combined:
    if predicting.ensemble is not None:
        return Combined(
            predicting.ensemble.rule, predicting.ensemble.params, predicting.ensemble.temperature, predicting.used
        )
    return Combined(
        "uniform", {"weights": np.full(len(predicting.used), 1 / len(predicting.used))}, None, predicting.used
    )


def input_name(square: Preprocess) -> str:
    """The name of the graph's input for such squares: `squash224`, `pad32_smooth_grey`."""
    return "_".join([f"{square.resize}{square.size}", *square.filters])


OPSET = 20
"""The operator set of ONNX 1.15 (2023), supported by onnxruntime since 1.17."""

ONE_FILE = 1_800_000_000
"""Bytes of weights in the graph's file; larger ones go to a second file, as protobuf is limited to 2 GB."""


def write_onnx(
    loaded: LoadedEnsemble, path: Path, *, opset: int = OPSET, metadata: Mapping[str, str] | None = None
) -> None:
    """Write `path`, and `<path>.data` beside it where the weights are too large for one file.

    The ensemble must be on the CPU. metadata: texts that are stored in the file, beside the names of the classes.
    """
    graph = EnsembleGraph(loaded).eval()
    # two images, as the exporter treats a batch size of one as a constant
    pixels = tuple(torch.zeros(2, square.size, square.size, 3, dtype=torch.uint8) for square in loaded.squares)
    batch = torch.export.Dim("n")
    with warnings.catch_warnings(), torch.no_grad(), _quiet(), _readable_errors(loaded):
        warnings.simplefilter("ignore")  # deprecations inside torch
        program = torch.onnx.export(
            graph,
            pixels,
            dynamo=True,
            opset_version=opset,
            input_names=[input_name(square) for square in loaded.squares],
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
    """Suppress the exporter's log of its single steps, which is of no use to users."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)


@contextlib.contextmanager
def _readable_errors(loaded: LoadedEnsemble) -> Iterator[None]:
    """Turn the exporter's errors, as for an operator that ONNX lacks, into an EnsError with the architectures."""
    try:
        yield
    except torch.onnx.OnnxExporterError as error:
        archs = dict.fromkeys(trained.recipe.arch for trained in loaded.networks.values())
        message = str(error.__cause__ or error).strip().partition("\n")[0]
        raise EnsError(
            f"torch cannot write {abbreviated(archs)} as ONNX ({one_line(message)}); --verbose shows why"
        ) from error
