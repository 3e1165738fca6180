"""Grad-CAM heat maps, also for reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from ensemble.core.errors import DataError, EnsError, one_line
from ensemble.core.files import write_atomically
from ensemble.inference.model import load_network
from ensemble.models.network import Network
from ensemble.models.timm_backbones import TimmBody
from ensemble.report.sections.mistakes import Heatmap, heat_picture

SUPPORTED = (
    "Grad-CAM needs a network whose last features are a map, such as resnet, densenet, efficientnet, convnext, swin"
    " or customnet"
)
"""The end of every error message about a network without a feature map."""


def grad_cam(network: Network, x: Tensor, c: int | None = None) -> tuple[Tensor, Tensor]:
    """(map float (h, w) between 0 and 1, probabilities float (k,)) of one normalised image x (1, 3, h, w).

    c: the index of the class, by default of the most probable one. The features are the feature map that enters the
    head; where it is one pixel, the last larger one. Raises DataError for a network whose features are tokens, such
    as a vision transformer, or are pooled.
    """
    features, logits = features_and_logits(network, x)
    probs = logits[0].detach().softmax(0)
    class_index = int(probs.argmax()) if c is None else c
    with torch.enable_grad():  # a channels-first map is the computed tensor or a view of it
        (gradient,) = torch.autograd.grad(logits[0, class_index], features.computed)
    weights = features.channels_first(gradient).mean(dim=(2, 3), keepdim=True)
    cam = (weights * features.channels_first(features.computed.detach())).sum(1, keepdim=True).relu()
    cam = functional.interpolate(cam, x.shape[-2:], mode="bilinear", align_corners=False)[0, 0]
    highest = cam.max()
    return (cam / highest if highest > 0 else cam).cpu(), probs.cpu()


def why_no_map(network: Network, size: int) -> str:
    """Why Grad-CAM does not support this network for images of `size` pixels, or an empty text."""
    device = next(network.parameters()).device
    try:
        features_and_logits(network, torch.zeros(1, 3, size, size, device=device))
    except DataError as error:
        return str(error)
    return ""


class FeatureMap:
    """A feature map. computed: float (1, c, h, w), or (1, h, w, c) where `axis`, that of the channels, is 3."""

    def __init__(self, computed: Tensor, axis: int) -> None:
        self.computed, self.axis = computed, axis

    def channels_first(self, values: Tensor) -> Tensor:
        """`values`, in the layout of `computed`, as (1, c, h, w)."""
        return values.movedim(self.axis, 1)

    @property
    def smallest_side(self) -> int:
        """The smaller of height and width, in pixels."""
        return min(self.channels_first(self.computed).shape[2:])


def features_and_logits(network: Network, x: Tensor) -> tuple[FeatureMap, Tensor]:
    """The feature map for Grad-CAM, and the logits (1, k) to differentiate. Raises DataError."""
    body, head = network.children()
    with torch.enable_grad(), _outputs(body) as earlier:
        image = x.clone().requires_grad_()
        if isinstance(body, TimmBody):
            last: Any = body.features(image)
            logits = head(body.pool(last))
        else:
            last = body(image)
            logits = head(last)
    axis = _channel_axis(body, last)
    maps = [FeatureMap(tensor, axis) for tensor in (*earlier, last) if _fits(tensor, axis, x)]
    large = [feature_map for feature_map in maps if feature_map.smallest_side > 1]
    if not large:
        raise DataError(f"its features are one pixel for images of {x.shape[-1]} pixels; train it with larger ones")
    return large[-1], logits.float()


def _channel_axis(body: nn.Module, features: Any) -> int:
    """The axis of the channels in the body's last features. Raises DataError where they are no feature map.

    timm records the number of channels at the end of a network, and which networks have them last; a tensor of
    attention weights or tokens matches neither.
    """
    if not isinstance(features, Tensor):
        raise DataError(f"its features are {len(features)} lists of tokens, not a map; {SUPPORTED}")
    shape = tuple(features.shape[1:])
    if features.ndim == 3:
        raise DataError(f"its features are {shape[0]} tokens, not a map of places; {SUPPORTED}")
    if features.ndim != 4:
        raise DataError(f"its features are pooled, of shape {shape}; {SUPPORTED}")
    if not isinstance(body, TimmBody):
        return 1
    model: Any = body.model
    axis = 3 if getattr(model, "output_fmt", None) == "NHWC" else 1
    if features.shape[axis] != model.num_features:
        raise DataError(f"its features have the shape {shape}, {model.num_features} channels expected; {SUPPORTED}")
    return axis


def _fits(tensor: Any, axis: int, x: Tensor) -> bool:
    """Whether a tensor can be a feature map, with gradients, of one image x (1, 3, size, size), and no larger."""
    if not isinstance(tensor, Tensor) or tensor.ndim != 4 or len(tensor) != 1 or not tensor.requires_grad:
        return False
    height, width = (side for dimension, side in enumerate(tensor.shape) if dimension not in (0, axis))
    return height == width <= x.shape[-1]


@contextmanager
def _outputs(body: nn.Module) -> Iterator[list[Any]]:
    """Collects, within the block, the outputs of the layers that end a stage, in the order of computation.

    timm names these layers. This package's and torchvision's networks are sequences of convolutions, in which every
    layer of the sequence ends a stage; modules inside a layer may be only a branch of it.
    """
    outputs: list[Any] = []
    handles = [
        layer.register_forward_hook(lambda _layer, _input, output: outputs.append(output))
        for layer in _layers(body)
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _layers(body: nn.Module) -> list[nn.Module]:
    if not isinstance(body, TimmBody):
        return [layer for part in body for layer in _layers(part)] if isinstance(body, nn.Sequential) else [body]
    model: Any = body.model
    modules = dict(model.named_modules())
    stages = [stage["module"] for stage in getattr(model, "feature_info", None) or []]
    return [modules[name] for name in stages if name in modules]


def draw_heatmaps(
    heatmaps: Sequence[Heatmap],
    open_image: Callable[[str], Image.Image],
    device: torch.device,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """Write each heat map to its file. open_image: the id of a row -> its upright image.

    on_progress: called with the number of finished maps. Returns a line for each run whose maps cannot be drawn;
    the other maps are drawn nevertheless.
    """
    problems, done = [], 0
    sorted_heatmaps = sorted(heatmaps, key=lambda heatmap: heatmap.run.id)
    for run, run_heatmaps in groupby(sorted_heatmaps, key=lambda heatmap: heatmap.run):
        try:
            trained = load_network(run, device)
            for heatmap in run_heatmaps:
                pixels = trained.square.of(open_image(heatmap.name))
                class_index = trained.classes.index(heatmap.class_name)
                cam, _ = grad_cam(trained.network, trained.normalised(pixels, device), class_index)
                write_atomically(heatmap.path, heat_picture(pixels, cam.numpy()))
                done += 1
                on_progress(done)
        except (EnsError, ValueError, KeyError) as error:
            problems.append(f"{run.id}: no Grad-CAM ({one_line(error)})")
    return problems
