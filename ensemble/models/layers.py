"""The layers of a body, the heads that replace a classifier, and convolutions with the batch norms behind them.

A batch norm multiplies each filter's output by a constant. In networks that were trained for long this constant is
50 and more for some filters and nearly 0 for others. An optimizer of the Adam family moves every weight by about
the learning rate, and so moves some filters fifty times as far as it seems to: with the norm's statistics kept,
such a network falls apart at rates that others train well with. Here the constant goes into the filter, and the
norm's statistics and weight follow: the network computes what it did before, in training and in evaluation mode
alike.
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
from ensemble.recipe.schema import Recipe

Layer = tuple[str, nn.Module]


def layers(body: nn.Module) -> list[Layer]:
    """Every convolution and linear layer of `body` with its name, in the order of registration."""
    return [(name, module) for name, module in body.named_modules() if isinstance(module, (_ConvNd, nn.Linear))]


def last_layers(body: nn.Module, count: int) -> list[Layer]:
    """The last `count` layers, all of them where there are fewer."""
    return layers(body)[-count:]


def last_parameters(body: nn.Module, count: int) -> set[nn.Parameter]:
    """The parameters of the last `count` layers and of what comes after the first of these: norms, scales, tokens.

    A batch norm thus belongs to the layer before it. What comes before the first layer of all belongs to it.
    """
    first = last_layers(body, count)[:1]
    if not first or len(layers(body)) <= count:
        return set(body.parameters())
    modules = list(body.modules())
    start = next(place for place, module in enumerate(modules) if module is first[0][1])
    # a module before may contain one of these; its own parameters, such as a class token, are from before
    return {parameter for module in modules[start:] for parameter in module.parameters(recurse=False)}


def norms(network: nn.Module) -> list[nn.Module]:
    """Every batch norm."""
    return [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def kept_parameters(network: nn.Module, kept: bool | str | None) -> set[nn.Parameter]:
    """What of the batch norms does not learn: True all of it; "statistics" the weights, while biases learn."""
    names = {True: ("weight", "bias"), "statistics": ("weight",)}.get(kept or False, ())
    return {parameter for norm in norms(network) for name, parameter in norm.named_parameters() if name in names}


def set_mode(network: nn.Module, training: bool) -> None:
    """Training or evaluation mode. Norms whose weight does not learn keep their statistics (fastai's BnFreeze)."""
    network.train(training)
    for norm in norms(network):
        if isinstance(norm.weight, nn.Parameter) and not norm.weight.requires_grad:
            norm.eval()


DROPOUT = 0.5
"""fastai's, of a recipe that says none."""

M = TypeVar("M", bound=nn.Module)


def dropout_of(recipe: Recipe) -> float:
    """The dropout of a recipe's head, resolved or not."""
    return DROPOUT if recipe.dropout is None else recipe.dropout


def linear_head(shape: Shape, classes: int, *, dropout: float) -> nn.Module:
    """One linear layer after the mean over a map (c, h, w), or on a row (c,), with dropout before it.

    Returns a module (n, *shape) -> (n, classes), initialised as fastai does.
    """
    pool = [nn.AdaptiveAvgPool2d(1)] if len(shape) == 3 else []
    return initialised(nn.Sequential(*pool, nn.Flatten(), nn.Dropout(dropout), nn.Linear(shape[0], classes)))


def concat_head(shape: Shape, classes: int, *, hidden: tuple[int, ...] = (512,), dropout: float = 0.5) -> nn.Module:
    """fastai's head for features of one image: a map (c, h, w), pooled by mean and maximum, or a row (c,).

    Returns a module (n, *shape) -> (n, classes), initialised as fastai does.
    """
    from fastai.vision.learner import create_head

    is_map = len(shape) == 3
    head: nn.Module = create_head(
        shape[0], classes, lin_ftrs=list(hidden), ps=dropout, pool=is_map, concat_pool=is_map
    )
    return initialised(head)


def initialised(module: M) -> M:
    """`module` with Kaiming's random weights and zero biases in everything but its batch norms."""
    from fastai.torch_core import apply_init

    apply_init(module, nn.init.kaiming_normal_)
    return module


MARK = "scale_free"


def mark_scale_free(network: nn.Module) -> None:
    """Mark the filters of convolutions that are followed, in the order of registration, by a batch norm of theirs.

    What stands between must not mind a positive factor either, as max-pools and ReLUs do not.
    """
    layers = [module for module in network.modules() if isinstance(module, (_ConvNd, _BatchNorm))]
    for before, after in pairwise(layers):
        if isinstance(before, _ConvNd) and isinstance(after, _BatchNorm) and _follows(before, after):
            setattr(before.weight, MARK, True)


def _follows(convolution: _ConvNd, norm: _BatchNorm) -> bool:
    return norm.num_features == convolution.out_channels


def is_scale_free(parameter: nn.Parameter) -> bool:
    """Whether `mark_scale_free` has marked it."""
    return bool(getattr(parameter, MARK, False))


CLOSE = 1e-3
"""How far outputs may move by rounding, as a share of the largest."""

Pair = tuple[_ConvNd, _BatchNorm]


@torch.no_grad()
def convolutions_with_norms(network: nn.Module, size: int) -> tuple[list[Pair], Tensor, Tensor]:
    """Each convolution whose output is what a batch norm takes in, with that norm.

    size: of images, in pixels, on which it is tried; these images, and what the network makes of them.
    """
    images = torch.linspace(-2, 2, 2 * 3 * size * size).sin().mul(2).view(2, 3, size, size)
    images = images.to(next(network.parameters()))
    with _evaluating(network):
        pairs, outputs = _pairs(network, images)
    return pairs, images, outputs


@torch.no_grad()
def computes_the_same(network: nn.Module, images: Tensor, expected: Tensor) -> bool:
    """Whether a network still makes of images what it did, up to rounding."""
    with _evaluating(network):
        outputs = network(images)
    return torch.allclose(outputs, expected, rtol=CLOSE, atol=CLOSE * float(expected.abs().max()))


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Each module is put back into the mode that it was in: a frozen norm evaluates while the others train."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    yield
    for module in training:
        module.training = True


def _pairs(network: nn.Module, images: Tensor) -> tuple[list[Pair], Tensor]:
    """Each convolution whose output is what a batch norm takes in, with that norm; and what the network makes."""
    made_by: dict[int, tuple[_ConvNd, Tensor]] = {}  # the tensors are kept, so that no other takes their place
    pairs: list[Pair] = []

    def made(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, _ConvNd)
        made_by[id(output)] = module, output

    def taken(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, _BatchNorm)
        if id(inputs[0]) in made_by and module.affine and module.running_var is not None:
            pairs.append((made_by[id(inputs[0])][0], module))

    hooks = [
        *(part.register_forward_hook(made) for part in network.modules() if isinstance(part, _ConvNd)),
        *(part.register_forward_pre_hook(taken) for part in network.modules() if isinstance(part, _BatchNorm)),
    ]
    outputs: Tensor = network(images)
    for hook in hooks:
        hook.remove()
    return pairs, outputs


@torch.no_grad()
def rescale_filters(network: nn.Module, size: int) -> int:
    """Give every filter the scale that the batch norm after it gives its output; how many convolutions that were.

    size: of images, in pixels, on which it is tried. 0, and the network as it was, where it computes something else
    afterwards: some use of a convolution's output cannot be seen from outside.
    """
    before = {name: value.clone() for name, value in network.state_dict().items()}
    pairs, images, expected = convolutions_with_norms(network, size)
    for convolution, norm in pairs:
        _rescale(convolution, norm)
    if computes_the_same(network, images, expected):
        return len(pairs)
    network.load_state_dict(before)
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
