"""Grad-CAM heat maps, and those that a report shows."""

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

CAN = (
    "Grad-CAM needs a network whose last features are a map, such as resnet, densenet, efficientnet, convnext, swin"
    " or customnet"
)
"""What every refusal ends with."""


def grad_cam(network: Network, x: Tensor, c: int | None = None) -> tuple[Tensor, Tensor]:
    """(map float (h, w) between 0 and 1, probabilities float (k,)) of one normalised image x (1, 3, h, w).

    c: the class that is asked about, the most probable one where it is None. The features are the map that the
    head sees; where it is one pixel, the last larger one. Raises DataError for a network whose features are tokens,
    such as a vision transformer, or are pooled.
    """
    features, logits = _features(network, x)
    probs = logits[0].detach().softmax(0)
    asked = int(probs.argmax()) if c is None else c
    with torch.enable_grad():  # a map with the channels first is the tensor that was computed, or a view of it
        (gradient,) = torch.autograd.grad(logits[0, asked], features.computed)
    weights = features.channels_first(gradient).mean(dim=(2, 3), keepdim=True)
    cam = (weights * features.channels_first(features.computed.detach())).sum(1, keepdim=True).relu()
    cam = functional.interpolate(cam, x.shape[-2:], mode="bilinear", align_corners=False)[0, 0]
    highest = cam.max()
    return (cam / highest if highest > 0 else cam).cpu(), probs.cpu()


def why_no_map(network: Network, size: int) -> str:
    """Why Grad-CAM cannot draw this network for images of `size` pixels, or nothing."""
    device = next(network.parameters()).device
    try:
        _features(network, torch.zeros(1, 3, size, size, device=device))
    except DataError as error:
        return str(error)
    return ""


class _Map:
    """computed: float (1, c, h, w), or (1, h, w, c) where `axis`, that of the channels, is 3."""

    def __init__(self, computed: Tensor, axis: int) -> None:
        self.computed, self.axis = computed, axis

    def channels_first(self, values: Tensor) -> Tensor:
        """`values`, laid out as `computed` is, as (1, c, h, w)."""
        return values.movedim(self.axis, 1)

    @property
    def smallest_side(self) -> int:
        """In pixels."""
        return min(self.channels_first(self.computed).shape[2:])


def _features(network: Network, x: Tensor) -> tuple[_Map, Tensor]:
    """The map that is drawn, and the logits (1, k) that gradients come from. Raises DataError."""
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
    maps = [_Map(tensor, axis) for tensor in (*earlier, last) if _fits(tensor, axis, x)]
    large = [one for one in maps if one.smallest_side > 1]
    if not large:
        raise DataError(f"its features are one pixel for images of {x.shape[-1]} pixels; train it with larger ones")
    return large[-1], logits.float()


def _channel_axis(body: nn.Module, features: Any) -> int:
    """Where the body's last features have their channels. Raises DataError where they are no map.

    timm says how many channels a network ends with, and which networks have them last; a tensor of attention or
    of tokens agrees with neither.
    """
    if not isinstance(features, Tensor):
        raise DataError(f"its features are {len(features)} lists of tokens, not a map; {CAN}")
    shape = tuple(features.shape[1:])
    if features.ndim == 3:
        raise DataError(f"its features are {shape[0]} tokens, not a map of places; {CAN}")
    if features.ndim != 4:
        raise DataError(f"its features are pooled, of shape {shape}; {CAN}")
    if not isinstance(body, TimmBody):
        return 1
    model: Any = body.model
    axis = 3 if getattr(model, "output_fmt", None) == "NHWC" else 1
    if features.shape[axis] != model.num_features:
        raise DataError(f"its features have the shape {shape}, {model.num_features} channels expected; {CAN}")
    return axis


def _fits(tensor: Any, axis: int, x: Tensor) -> bool:
    """Whether it can be a map of one image x (1, 3, size, size), no larger than that, from which gradients flow."""
    if not isinstance(tensor, Tensor) or tensor.ndim != 4 or len(tensor) != 1 or not tensor.requires_grad:
        return False
    height, width = (side for place, side in enumerate(tensor.shape) if place not in (0, axis))
    return height == width <= x.shape[-1]


@contextmanager
def _outputs(body: nn.Module) -> Iterator[list[Any]]:
    """While the block runs, the outputs of the layers that end a stage, as they come.

    timm names these layers. Our own networks and torchvision's are convolutions from end to end, where every layer
    of the sequence ends one; what lies inside a layer may be a branch of it only.
    """
    found: list[Any] = []
    handles = [layer.register_forward_hook(lambda _l, _in, out: found.append(out)) for layer in _layers(body)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _layers(body: nn.Module) -> list[nn.Module]:
    if not isinstance(body, TimmBody):
        return [layer for part in body for layer in _layers(part)] if isinstance(body, nn.Sequential) else [body]
    model: Any = body.model
    named = dict(model.named_modules())
    stages = [stage["module"] for stage in getattr(model, "feature_info", None) or []]
    return [named[name] for name in stages if name in named]


def draw_heatmaps(
    wanted: Sequence[Heatmap],
    opened: Callable[[str], Image.Image],
    device: torch.device,
    step: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """Draw each into its file. opened: the id of a row -> its upright image.  step: told how many are done.

    Returns a line for each run whose network could not be asked; the others are drawn all the same.
    """
    problems, done = [], 0
    ordered = sorted(wanted, key=lambda look: look.run.id)
    for run, of_run in groupby(ordered, key=lambda look: look.run):
        try:
            trained = load_network(run, device)
            for look in of_run:
                pixels = trained.square.of(opened(look.name))
                asked = trained.classes.index(look.asked)
                cam, _ = grad_cam(trained.network, trained.normalised(pixels, device), asked)
                write_atomically(look.path, heat_picture(pixels, cam.numpy()))
                done += 1
                step(done)
        except (EnsError, ValueError, KeyError) as error:
            problems.append(f"{run.id}: no Grad-CAM ({one_line(error)})")
    return problems
