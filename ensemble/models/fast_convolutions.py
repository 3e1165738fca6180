"""Fast gradients of depthwise convolutions on a CPU, and their use while a network trains.

oneDNN, with which torch computes convolutions on a processor, has fast code for the filters' gradient of 3 x 3
filters only, and in bfloat16 for the images' gradient of stride 1 only; all else goes through its reference code,
which takes 10 to 100 times as long (tests/benchmarks/depthwise.py). Here a larger filter's gradient is put together
of those of 3 x 3 filters, or comes out of a matrix product where the images are small, and the images' gradient of
a larger stride is a convolution of stride 1.

A batch norm that keeps its statistics is a multiplication and an addition: both go into the convolution before it,
and two passes over the images are saved in each direction, a fifth of the time of an EfficientNet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from ensemble.models.layers import computes_the_same, convolutions_with_norms

BLOCK = 3
"""The filters whose gradient oneDNN has fast code for."""
POSITIONS = 196
"""Of outputs, up to which parts of the images are copied faster in float32 than the reference code is."""
PAIRS_OF_POSITIONS = 4096
"""Of inputs and outputs, up to which a product of all pairs is faster in bfloat16."""


class Depthwise(torch.autograd.Function):
    """images (n, c, h, w), filters (c, 1, k, k), bias (c,) or None -> (n, c, h', w'); zeros around the images."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, filters: Tensor, bias: Tensor | None, stride: int, padding: int
    ) -> Tensor:
        """As `torch.conv2d` with as many groups as channels."""
        ctx.save_for_backward(images, filters)
        ctx.stride, ctx.padding = stride, padding
        return torch.conv2d(images, filters, bias, stride, padding, 1, images.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of images, filters and bias."""
        (gradient,) = gradients
        images, filters = ctx.saved_tensors
        parts = gradient, images, filters, ctx.stride, ctx.padding
        return (
            images_gradient(*parts) if ctx.needs_input_grad[0] else None,
            filters_gradient(*parts) if ctx.needs_input_grad[1] else None,
            gradient.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None,
            None,
            None,
        )


def images_gradient(gradient: Tensor, images: Tensor, filters: Tensor, stride: int, padding: int) -> Tensor:
    """(n, c, h, w), of gradient (n, c, h', w')."""
    if stride == 1 or images.dtype != torch.bfloat16:
        return library_gradient(gradient, images, filters, stride, padding, 0)
    n, c, h, w = images.shape
    around = filters.shape[-1] - 1
    first = around - padding
    # the gradient with zeros between its pixels, around which the flipped filters move
    spread = gradient.new_zeros((n, h + around, w + around, c)).permute(0, 3, 1, 2)
    rows, columns = ((size - 1) * stride + 1 for size in gradient.shape[2:])
    spread[:, :, first : first + rows : stride, first : first + columns : stride] = gradient
    return torch.conv2d(spread, filters.flip(2, 3), None, 1, 0, 1, c)


def filters_gradient(gradient: Tensor, images: Tensor, filters: Tensor, stride: int, padding: int) -> Tensor:
    """(c, 1, k, k), of gradient (n, c, h', w')."""
    size = filters.shape[-1]
    outputs = gradient.shape[2] * gradient.shape[3]
    if size > BLOCK and images.dtype == torch.bfloat16 and outputs * images[0, 0].numel() <= PAIRS_OF_POSITIONS:
        return _by_pairs(gradient, images, filters, stride, padding)
    if size > BLOCK and (images.dtype == torch.bfloat16 or outputs <= POSITIONS):
        return _by_blocks(gradient, images, filters, stride, padding)
    return library_gradient(gradient, images, filters, stride, padding, 1)


def library_gradient(
    gradient: Tensor, images: Tensor, filters: Tensor, stride: int, padding: int, which: int
) -> Tensor:
    """torch's own: 0 of the images, 1 of the filters."""
    wanted = [place == which for place in range(3)]
    strides, paddings, ones, zeros = [stride] * 2, [padding] * 2, [1, 1], [0, 0]
    groups = images.shape[1]
    found: Tensor = torch.ops.aten.convolution_backward(
        gradient, images, filters, None, strides, paddings, ones, False, zeros, groups, wanted
    )[which]
    return found


def _by_blocks(gradient: Tensor, images: Tensor, filters: Tensor, stride: int, padding: int) -> Tensor:
    """Of the 3 x 3 parts of the filters, each of which sees the images from its own place on."""
    (h, w), size = images.shape[2:], filters.shape[-1]
    count = -(-size // BLOCK) * BLOCK
    rows, columns = ((outputs - 1) * stride for outputs in gradient.shape[2:])
    padded = F.pad(images, (padding, columns + count - w - padding, padding, rows + count - h - padding))
    found = filters.new_empty((len(filters), 1, count, count))
    block = filters[:, :, :BLOCK, :BLOCK]
    for i in range(0, count, BLOCK):
        for j in range(0, count, BLOCK):
            part = padded[:, :, i : i + rows + BLOCK, j : j + columns + BLOCK]
            found[:, :, i : i + BLOCK, j : j + BLOCK] = library_gradient(gradient, part, block, stride, 0, 1)
    return found[:, :, :size, :size]


def _by_pairs(gradient: Tensor, images: Tensor, filters: Tensor, stride: int, padding: int) -> Tensor:
    """Of all products of an output's gradient with an input, summed over the images, then over equal distances."""
    n, c, h, w = images.shape
    size, outputs = filters.shape[-1], gradient.shape[2:]
    products = torch.bmm(
        gradient.permute(1, 2, 3, 0).reshape(c, -1, n), images.permute(1, 0, 2, 3).reshape(c, n, h * w)
    )
    distances = _distances(h, w, *outputs, size, stride, padding)
    return (products.reshape(c, -1).float() @ distances).reshape(c, 1, size, size).to(filters.dtype)


@lru_cache(maxsize=256)
def _distances(h: int, w: int, rows: int, columns: int, size: int, stride: int, padding: int) -> Tensor:
    """(rows * columns * h * w, size * size): 1 where a weight of the filter takes an input to an output."""

    def along(outputs: int, inputs: int) -> Tensor:
        taken = torch.arange(outputs).view(-1, 1, 1) * stride + torch.arange(size) - padding
        return (taken == torch.arange(inputs).view(1, -1, 1)).float()

    return torch.einsum("yai,xbj->yxabij", along(rows, h), along(columns, w)).reshape(-1, size * size)


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
