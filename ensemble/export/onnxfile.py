"""A panel as an ONNX file, by torch's dynamo exporter."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from ensemble.errors import EnsError, abbreviated, one_line
from ensemble.export.graph import PanelGraph, input_name
from ensemble.export.session import OUTPUTS
from ensemble.extras import require
from ensemble.models.panel import Panel

OPSET = 20
"""The operators of ONNX 1.15 (2023), which onnxruntime has had since 1.17."""

ONE_FILE = 1_800_000_000
"""Bytes of weights; protobuf holds no message above 2 GB, and more weights lie in a file beside the graph."""


def check_extra() -> None:
    """Raise EnsError that says what to type where a package is missing."""
    require("an export", "onnx", "onnxscript", "onnxruntime")


def write_onnx(panel: Panel, path: Path, *, opset: int = OPSET, metadata: Mapping[str, str] | None = None) -> None:
    """Write `path`, and `<path>.data` beside it where the weights are too large for one file.

    The panel is on the CPU. metadata: text that the file carries, beside the names of the classes.
    """
    graph = PanelGraph(panel).eval()
    # two images, as the exporter takes a batch of one for a constant
    pixels = tuple(torch.zeros(2, one.size, one.size, 3, dtype=torch.uint8) for one in panel.squares)
    batch = torch.export.Dim("n")
    with warnings.catch_warnings(), torch.no_grad(), _quiet(), _refusing(panel):
        warnings.simplefilter("ignore")  # torch on what it is about to drop of itself
        program = torch.onnx.export(
            graph,
            pixels,
            dynamo=True,
            opset_version=opset,
            input_names=[input_name(one) for one in panel.squares],
            output_names=list(OUTPUTS),
            dynamic_shapes=(({0: batch},) * len(pixels),),
            verbose=False,
        )
    assert program is not None
    classes = {"classes": json.dumps(panel.committee.classes, ensure_ascii=False)}
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
def _refusing(panel: Panel) -> Iterator[None]:
    """An operator that ONNX does not have is told with the architectures that may use it."""
    try:
        yield
    except torch.onnx.OnnxExporterError as error:
        archs = dict.fromkeys(trained.recipe.arch for trained in panel.networks.values())
        first = str(error.__cause__ or error).strip().partition("\n")[0]
        raise EnsError(
            f"torch cannot write {abbreviated(archs)} as ONNX ({one_line(first)}); --verbose shows why"
        ) from error
