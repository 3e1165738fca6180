"""The last N layers of a body: which parameters train when only a part of a network is fine-tuned."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.conv import _ConvNd

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
