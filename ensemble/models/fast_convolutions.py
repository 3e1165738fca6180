"""Fast gradients of depthwise convolutions on a CPU, and their use in training.

oneDNN, which computes torch's convolutions on a CPU, has fast code for the filter gradient of 3 x 3 filters only,
and in bfloat16 for the image gradient of stride 1 only; all other cases run its reference code, which takes 10 to
100 times as long (tests/benchmarks/depthwise.py). Here the gradient of a larger filter is assembled from gradients
of 3 x 3 filters, or is a matrix product where the images are small, and the image gradient of a larger stride is a
convolution of stride 1.

A batch norm with fixed statistics is a multiplication and an addition: both are folded into the convolution before
it, which saves two passes over the images in each direction, a fifth of the time of an EfficientNet.
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

from ensemble.models.layers import convolutions_with_norms, outputs_unchanged

BLOCK_SIZE = 3
"""The side of the filters whose gradient oneDNN has fast code for."""
MAX_POSITIONS = 196
"""Output positions up to which copying parts of the images is faster in float32 than the reference code."""
MAX_POSITION_PAIRS = 4096
"""Pairs of input and output positions up to which the product of all pairs is faster in bfloat16."""


class Depthwise(torch.autograd.Function):
    """images (n, c, h, w), filters (c, 1, k, k), bias (c,) or None -> (n, c, h', w'); zero padding."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, filters: Tensor, bias: Tensor | None, stride: int, padding: int
    ) -> Tensor:
        """Like `torch.conv2d` with as many groups as channels."""
        ctx.save_for_backward(images, filters)
        ctx.stride, ctx.padding = stride, padding
        return torch.conv2d(images, filters, bias, stride, padding, 1, images.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of images, filters and bias."""
        (gradient,) = gradients
        images, filters = ctx.saved_tensors
        arguments = gradient, images, filters, ctx.stride, ctx.padding
        return (
            images_gradient(*arguments) if ctx.needs_input_grad[0] else None,
            filters_gradient(*arguments) if ctx.needs_input_grad[1] else None,
            gradient.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None,
            None,
            None,
        )


def images_gradient(gradient: Tensor, images: Tensor, filters: Tensor, stride: int, padding: int) -> Tensor:
    """The gradient of the images (n, c, h, w), from that of the outputs (n, c, h', w')."""
    if stride == 1 or images.dtype != torch.bfloat16:
        return library_gradient(gradient, images, filters, stride, padding, 0)
    n, c, h, w = images.shape
    margin = filters.shape[-1] - 1
    offset = margin - padding
    # the gradient with zeros between and around its pixels, convolved with the flipped filters
    dilated = gradient.new_zeros((n, h + margin, w + margin, c)).permute(0, 3, 1, 2)
    rows, columns = ((size - 1) * stride + 1 for size in gradient.shape[2:])
    dilated[:, :, offset : offset + rows : stride, offset : offset + columns : stride] = gradient
    return torch.conv2d(dilated, filters.flip(2, 3), None, 1, 0, 1, c)


def filters_gradient(gradient: Tensor, images: Tensor, filters: Tensor, stride: int, padding: int) -> Tensor:
    """The gradient of the filters (c, 1, k, k), from that of the outputs (n, c, h', w')."""
    size = filters.shape[-1]
    outputs = gradient.shape[2] * gradient.shape[3]
    if (
        size > BLOCK_SIZE
        and images.dtype == torch.bfloat16
        and outputs * images[0, 0].numel() <= MAX_POSITION_PAIRS
    ):
        return _by_pairs(gradient, images, filters, stride, padding)
    if size > BLOCK_SIZE and (images.dtype == torch.bfloat16 or outputs <= MAX_POSITIONS):
        return _by_blocks(gradient, images, filters, stride, padding)
    return library_gradient(gradient, images, filters, stride, padding, 1)


def library_gradient(
    gradient: Tensor, images: Tensor, filters: Tensor, stride: int, padding: int, index: int
) -> Tensor:
    """torch's own gradient: of the images for index 0, of the filters for index 1."""
    output_mask = [position == index for position in range(3)]
    strides, paddings, ones, zeros = [stride] * 2, [padding] * 2, [1, 1], [0, 0]
    groups = images.shape[1]
    result: Tensor = torch.ops.aten.convolution_backward(
        gradient, images, filters, None, strides, paddings, ones, False, zeros, groups, output_mask
    )[index]
    return result


def _by_blocks(gradient: Tensor, images: Tensor, filters: Tensor, stride: int, padding: int) -> Tensor:
    """The filter gradient in 3 x 3 blocks, each from the part of the images that the block is applied to."""
    (h, w), size = images.shape[2:], filters.shape[-1]
    count = -(-size // BLOCK_SIZE) * BLOCK_SIZE
    rows, columns = ((outputs - 1) * stride for outputs in gradient.shape[2:])
    padded = F.pad(images, (padding, columns + count - w - padding, padding, rows + count - h - padding))
    assembled = filters.new_empty((len(filters), 1, count, count))
    block = filters[:, :, :BLOCK_SIZE, :BLOCK_SIZE]
    for i in range(0, count, BLOCK_SIZE):
        for j in range(0, count, BLOCK_SIZE):
            part = padded[:, :, i : i + rows + BLOCK_SIZE, j : j + columns + BLOCK_SIZE]
            assembled[:, :, i : i + BLOCK_SIZE, j : j + BLOCK_SIZE] = library_gradient(
                gradient, part, block, stride, 0, 1
            )
    return assembled[:, :, :size, :size]


def _by_pairs(gradient: Tensor, images: Tensor, filters: Tensor, stride: int, padding: int) -> Tensor:
    """The filter gradient from all products of output gradient and input, summed over images and equal offsets."""
    n, c, h, w = images.shape
    size, outputs = filters.shape[-1], gradient.shape[2:]
    products = torch.bmm(
        gradient.permute(1, 2, 3, 0).reshape(c, -1, n), images.permute(1, 0, 2, 3).reshape(c, n, h * w)
    )
    offsets = _offset_matrix(h, w, *outputs, size, stride, padding)
    return (products.reshape(c, -1).float() @ offsets).reshape(c, 1, size, size).to(filters.dtype)


@lru_cache(maxsize=256)
def _offset_matrix(h: int, w: int, rows: int, columns: int, size: int, stride: int, padding: int) -> Tensor:
    """(rows * columns * h * w, size * size): 1 where a filter weight connects an input to an output."""

    def along(outputs: int, inputs: int) -> Tensor:
        positions = torch.arange(outputs).view(-1, 1, 1) * stride + torch.arange(size) - padding
        return (positions == torch.arange(inputs).view(1, -1, 1)).float()

    return torch.einsum("yai,xbj->yxabij", along(rows, h), along(columns, w)).reshape(-1, size * size)


def has_depthwise(body: nn.Module) -> bool:
    """Whether a network has depthwise convolutions."""
    return any(
        isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels for module in body.modules()
    )


class FastConvolutions(TorchFunctionMode):
    """Context in which a network's calls of `torch.conv2d` and `F.batch_norm` are replaced as described above.

    body: the network.  size: image size in pixels, used to find which norms follow which convolutions.
    """

    def __init__(self, body: nn.Module, size: int) -> None:
        super().__init__()
        with torch.autocast(next(body.parameters()).device.type, enabled=False):
            self.pairs, images, expected = convolutions_with_norms(body, size)
            with self:
                unchanged = outputs_unchanged(body, images, expected)
        self.depthwise = has_depthwise(body)
        if not unchanged:  # the output of a convolution is used elsewhere too
            self.pairs = []

    def applies(self) -> bool:
        """Whether the network, in its present state, has layers that can be made faster."""
        return self.depthwise or any(not norm.training for _, norm in self.pairs)

    def __enter__(self) -> FastConvolutions:
        """Modules are identified by their tensors, which every library passes unchanged to the two functions."""
        fixed = [(convolution, norm) for convolution, norm in self.pairs if not norm.training]
        self.norms = {id(convolution.weight): norm for convolution, norm in fixed}
        self.folded = {id(norm.running_mean) for _, norm in fixed}
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch instead of each of its functions."""
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
        stride_and_padding = _as_int(stride), _as_int(padding)
        depthwise = groups > 1 and groups == x.shape[1] == len(weight) and weight.shape[2] == weight.shape[3]
        if not depthwise or None in stride_and_padding or _as_int(dilation) != 1 or not torch.is_grad_enabled():
            return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        convolved: Tensor = Depthwise.apply(x, weight, bias, *stride_and_padding)
        return convolved


def _with_norm(weight: Tensor, bias: Tensor | None, norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that includes the norm; gradients reach all four tensors."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    return weight * scale.view(-1, 1, 1, 1), shift if bias is None else shift + bias * scale


def _as_int(value: Any) -> int | None:
    """The integer value that a setting has in both directions, or None."""
    values = value if isinstance(value, tuple | list) else (value,)
    return int(values[0]) if len(set(values)) == 1 and not isinstance(values[0], str) else None
