"""Fast convolutions while a network trains on a processor, whatever modules it is made of.

Depthwise convolutions get the gradients of `ensemble.models.depthwise`. A batch norm that keeps its statistics is a
multiplication and an addition: both go into the convolution before it, and two passes over the images are saved in
each direction, a fifth of the time of an EfficientNet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from ensemble.models.depthwise import Depthwise
from ensemble.models.pairs import computes_the_same, convolutions_with_norms


class FastConvolutions(TorchFunctionMode):
    """While it is entered, calls of `torch.conv2d` and `F.batch_norm` by a network's modules are as said above.

    body: the network.  size: of images, in pixels, on which is tried which norms follow which convolutions.
    """

    def __init__(self, body: nn.Module, size: int) -> None:
        super().__init__()
        with torch.autocast(next(body.parameters()).device.type, enabled=False):
            self.pairs, images, expected = convolutions_with_norms(body, size)
            with self:
                same = computes_the_same(body, images, expected)
        self.depthwise = any(
            isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels for module in body.modules()
        )
        if not same:  # some convolution's output is used elsewhere too
            self.pairs = []

    def applies(self) -> bool:
        """Whether there is anything to make fast, as the network is now."""
        return self.depthwise or any(not norm.training for _, norm in self.pairs)

    def __enter__(self) -> FastConvolutions:
        """Modules of every library call the two functions with their own tensors, by which they are told apart."""
        kept = [(convolution, norm) for convolution, norm in self.pairs if not norm.training]
        self.norms = {id(convolution.weight): norm for convolution, norm in kept}
        self.folded = {id(norm.running_mean) for _, norm in kept}
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch in place of every function of its own."""
        kwargs = kwargs or {}
        if function is torch.conv2d:
            return self._convolution(*args, **kwargs)
        if function is F.batch_norm and id(args[1]) in self.folded:
            return args[0]
        return function(*args, **kwargs)

    def _convolution(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        norm = self.norms.get(id(weight))
        if norm is not None:
            weight, bias = _with_norm(weight, bias, norm)
        numbers = _number(stride), _number(padding)
        depthwise = groups > 1 and groups == x.shape[1] == len(weight) and weight.shape[2] == weight.shape[3]
        if not depthwise or None in numbers or _number(dilation) != 1 or not torch.is_grad_enabled():
            return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        convolved: Tensor = Depthwise.apply(x, weight, bias, *numbers)
        return convolved


def _with_norm(weight: Tensor, bias: Tensor | None, norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that does what the norm does too; gradients pass to all four."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    return weight * scale.view(-1, 1, 1, 1), shift if bias is None else shift + bias * scale


def _number(value: Any) -> int | None:
    """The number that a setting has in both directions; None where there is no such."""
    values = value if isinstance(value, tuple | list) else (value,)
    return int(values[0]) if len(set(values)) == 1 and not isinstance(values[0], str) else None
