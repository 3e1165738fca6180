"""The layers of a body, the heads that replace a classifier, and convolutions with the batch norms after them.

A batch norm multiplies each filter's output by a constant. In networks that were trained for long this constant is
50 and more for some filters and nearly 0 for others. An optimizer of the Adam family changes every weight by about
the learning rate, so that the effective change of some filters is fifty times as large: with fixed statistics of
the norms, such a network diverges at learning rates that are suitable for others. Here the constant is multiplied
into the filter, and the norm's statistics and weight are adjusted: the network computes the same as before, in
training and in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from ensemble.models.torchvision_backbones import Shape

Layer = tuple[str, nn.Module]


def layers(body: nn.Module) -> list[Layer]:
    """All convolutions and linear layers of `body` with their names, in the order of registration."""
    return [(name, module) for name, module in body.named_modules() if isinstance(module, (_ConvNd, nn.Linear))]


def last_layers(body: nn.Module, count: int) -> list[Layer]:
    """The last `count` layers, or all of them if there are fewer."""
    return layers(body)[-count:]


def last_parameters(body: nn.Module, count: int) -> set[nn.Parameter]:
    """The parameters of the last `count` layers and of all modules after the first of these: norms, scales, tokens.

    A batch norm thus belongs to the layer before it. Modules before the first layer of the body belong to that one.
    """
    first = last_layers(body, count)[:1]
    if not first or len(layers(body)) <= count:
        return set(body.parameters())
    modules = list(body.modules())
    start = next(index for index, module in enumerate(modules) if module is first[0][1])
    # an earlier module may contain one of these; its own parameters, such as a class token, do not count
    return {parameter for module in modules[start:] for parameter in module.parameters(recurse=False)}


def norms(network: nn.Module) -> list[nn.Module]:
    """All batch norms of `network`."""
    return [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def kept_parameters(network: nn.Module, kept: bool | str | None) -> set[nn.Parameter]:
    """The fixed parameters of batch norms: all for True; the weights, not the biases, for "statistics"."""
    names = {True: ("weight", "bias"), "statistics": ("weight",)}.get(kept or False, ())
    return {parameter for norm in norms(network) for name, parameter in norm.named_parameters() if name in names}


def set_mode(network: nn.Module, training: bool) -> None:
    """Set training or evaluation mode. Norms with a fixed weight keep their statistics (fastai's BnFreeze)."""
    network.train(training)
    for norm in norms(network):
        if isinstance(norm.weight, nn.Parameter) and not norm.weight.requires_grad:
            norm.eval()


M = TypeVar("M", bound=nn.Module)


def linear_head(shape: Shape, classes: int, *, dropout: float) -> nn.Module:
    """Dropout and one linear layer, on the mean over a feature map (c, h, w) or on a row (c,).

    Returns a module (n, *shape) -> (n, classes), initialised as fastai does.
    """
    pool = [nn.AdaptiveAvgPool2d(1)] if len(shape) == 3 else []
    return initialised(nn.Sequential(*pool, nn.Flatten(), nn.Dropout(dropout), nn.Linear(shape[0], classes)))


def concat_head(shape: Shape, classes: int, *, hidden: tuple[int, ...] = (512,), dropout: float = 0.5) -> nn.Module:
    """fastai's head for the features of an image: a map (c, h, w), pooled by mean and maximum, or a row (c,).

    Returns a module (n, *shape) -> (n, classes), initialised as fastai does.
    """
    from fastai.vision.learner import create_head

    is_map = len(shape) == 3
    head: nn.Module = create_head(
        shape[0], classes, lin_ftrs=list(hidden), ps=dropout, pool=is_map, concat_pool=is_map
    )
    return initialised(head)


def initialised(module: M) -> M:
    """`module` with random Kaiming-normal weights and zero biases in all layers except batch norms."""
    from fastai.torch_core import apply_init

    apply_init(module, nn.init.kaiming_normal_)
    return module


SCALE_FREE = "scale_free"


def mark_scale_free(network: nn.Module) -> None:
    """Mark the filters of convolutions that are followed, in the order of registration, by a batch norm of theirs.

    Layers in between must commute with a positive factor, as max-pools and ReLUs do.
    """
    modules = [module for module in network.modules() if isinstance(module, (_ConvNd, _BatchNorm))]
    for before, after in pairwise(modules):
        if isinstance(before, _ConvNd) and isinstance(after, _BatchNorm) and _follows(before, after):
            setattr(before.weight, SCALE_FREE, True)


def _follows(convolution: _ConvNd, norm: _BatchNorm) -> bool:
    return norm.num_features == convolution.out_channels


def is_scale_free(parameter: nn.Parameter) -> bool:
    """Whether `mark_scale_free` has marked the parameter."""
    return bool(getattr(parameter, SCALE_FREE, False))


OUTPUT_TOLERANCE = 1e-3
"""The largest change of outputs that counts as rounding, as a share of the largest output."""

Pair = tuple[_ConvNd, _BatchNorm]


@torch.no_grad()
def convolutions_with_norms(network: nn.Module, size: int) -> tuple[list[Pair], Tensor, Tensor]:
    """Each convolution whose output is the input of a batch norm, with that norm; test images; their outputs.

    size: of the test images, in pixels.
    """
    images = torch.linspace(-2, 2, 2 * 3 * size * size).sin().mul(2).view(2, 3, size, size)
    images = images.to(next(network.parameters()))
    with _evaluating(network):
        pairs, outputs = _pairs(network, images)
    return pairs, images, outputs


@torch.no_grad()
def outputs_unchanged(network: nn.Module, images: Tensor, expected: Tensor) -> bool:
    """Whether a network's outputs for images are the expected ones, up to rounding."""
    with _evaluating(network):
        outputs = network(images)
    return torch.allclose(
        outputs, expected, rtol=OUTPUT_TOLERANCE, atol=OUTPUT_TOLERANCE * float(expected.abs().max())
    )


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode; each module then gets its own mode back: frozen norms evaluate while others train."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    yield
    for module in training:
        module.training = True


def _pairs(network: nn.Module, images: Tensor) -> tuple[list[Pair], Tensor]:
    """Each convolution whose output is the input of a batch norm, with that norm; and the network's outputs."""
    by_output: dict[int, tuple[_ConvNd, Tensor]] = {}  # tensors are kept, so that no id is reused
    pairs: list[Pair] = []

    def record_output(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, _ConvNd)
        by_output[id(output)] = module, output

    def record_pair(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, _BatchNorm)
        if id(inputs[0]) in by_output and module.affine and module.running_var is not None:
            pairs.append((by_output[id(inputs[0])][0], module))

    hooks = [
        *(part.register_forward_hook(record_output) for part in network.modules() if isinstance(part, _ConvNd)),
        *(
            part.register_forward_pre_hook(record_pair)
            for part in network.modules()
            if isinstance(part, _BatchNorm)
        ),
    ]
    outputs: Tensor = network(images)
    for hook in hooks:
        hook.remove()
    return pairs, outputs


@torch.no_grad()
def rescale_filters(network: nn.Module, size: int) -> int:
    """Multiply every filter by the scale of the batch norm after it; returns the number of these convolutions.

    size: of the test images, in pixels. Returns 0 and leaves the network as it was where its outputs would change:
    some uses of a convolution's output cannot be detected from outside.
    """
    original = {name: value.clone() for name, value in network.state_dict().items()}
    pairs, images, expected = convolutions_with_norms(network, size)
    for convolution, norm in pairs:
        _rescale(convolution, norm)
    if outputs_unchanged(network, images, expected):
        return len(pairs)
    network.load_state_dict(original)
    return 0


def _rescale(convolution: _ConvNd, norm: _BatchNorm) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    convolution.weight.mul_(scale.view(-1, *[1] * (convolution.weight.ndim - 1)))
    if convolution.bias is not None:
        convolution.bias.mul_(scale)
    norm.running_mean.mul_(scale)
    norm.running_var.mul_(scale.square())
    norm.weight.copy_(torch.sqrt(norm.running_var + norm.eps))
