"""Probabilities of images by one trained network, test-time augmentation, and handling of memory shortage."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ensemble.core.predictions import Floats, Ints
from ensemble.core.registry import Registry
from ensemble.models.network import Network

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device or the computer has no memory left for a tensor."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    signs = ("out of memory", "can't allocate memory", "alloc_failed")
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)


def keep_freed_memory() -> None:
    """Make the C library keep freed memory for later allocations instead of returning it to the system.

    Otherwise every large tensor is new memory, which the system fills with zeros page by page at the first access.
    Only glibc has these settings (mallopt); no effect elsewhere.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = _glibc()
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, -1)


def give_freed_memory_back() -> None:
    """Return freed memory to the system: the next member may need less."""
    with contextlib.suppress(OSError, AttributeError):
        _glibc().malloc_trim(0)


def _glibc() -> ctypes.CDLL:
    """Raises OSError on other systems than Linux with glibc."""
    if not sys.platform.startswith("linux"):
        raise OSError("no glibc")
    return ctypes.CDLL("libc.so.6")


View = Callable[[Tensor], Tensor]

views: Registry[tuple[View, ...]] = Registry("test-time augmentation")


def _unchanged(x: Tensor) -> Tensor:
    return x


def _mirrored(x: Tensor) -> Tensor:
    return x.flip(-1)


def _shifted(x: Tensor, step: int) -> Tensor:
    """Shifted down and right by `step` pixels (up and left if negative), with reflection padding."""
    side = x.shape[-1]
    margin = abs(step)
    start = margin - step
    return functional.pad(x, (margin,) * 4, mode="reflect")[..., start : start + x.shape[-2], start : start + side]


def _shifted_view(sign: int, mirrored: bool) -> View:
    def view(x: Tensor) -> Tensor:
        shifted = _shifted(x, sign * max(1, x.shape[-1] // 32))
        return shifted.flip(-1) if mirrored else shifted

    return view


def _rotated(turns: int, mirrored: bool) -> View:
    """A rotation by `turns` quarter turns, after mirroring if `mirrored`."""

    def view(x: Tensor) -> Tensor:
        return (x.flip(-1) if mirrored else x).rot90(turns, (-2, -1))

    return view


def _crop(row_offset: float, column_offset: float) -> View:
    """A crop of seven eighths of each side, at relative offsets from 0 to 1, resized to the full size."""

    def view(x: Tensor) -> Tensor:
        size = x.shape[-2:]
        crop_size = [max(1, round(7 / 8 * side)) for side in size]
        top, left = round(row_offset * (size[0] - crop_size[0])), round(column_offset * (size[1] - crop_size[1]))
        cropped = x[..., top : top + crop_size[0], left : left + crop_size[1]]
        return functional.interpolate(cropped, size, mode="bilinear", align_corners=False)

    return view


views.register("none", description="The image alone")((_unchanged,))
views.register("flip", description="The image and its mirror image")((_unchanged, _mirrored))
views.register("flips", description="Mirrored left to right, top to bottom, and both: four views")(
    (_unchanged, _mirrored, lambda x: x.flip(-2), lambda x: x.flip(-2, -1))
)
views.register("dihedral", description="Quarter turns, each mirrored too: eight views")(
    tuple(_rotated(turns, mirrored) for mirrored in (False, True) for turns in range(4))
)
views.register("crops", description="The image and five crops of seven eighths of its sides")(
    (_unchanged, *(_crop(*offsets) for offsets in ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5))))
)
# the six views of "94% on CIFAR-10 in 3.29 seconds on a single GPU" (Jordan 2024)
views.register("flip-shift", description="The image and two shifts of it, each mirrored too: six views")(
    (_unchanged, _mirrored, *(_shifted_view(sign, mirrored) for sign in (-1, 1) for mirrored in (False, True)))
)


def predict(
    network: Network,
    batch: Callable[[Ints], Tensor],
    rows: Ints,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    tta: str = "none",
    batch_size: int = 128,
    on_batch: Callable[[], None] = lambda: None,
) -> tuple[Floats, Floats]:
    """Probabilities, float32 (n, k) each: the mean over the views, and those of the first, unchanged view.

    The network computes in float32. A batch that does not fit into memory is halved.

    batch: rows -> uint8 (b, 3, size, size).  rows: int64 (n,).  mean, std: three numbers each, for pixels
    between 0 and 1.
    """
    device = next(network.parameters()).device
    tta_views = views.get(tta)
    # pixels are stored channels-last: keeping that layout is the fastest, whatever the layout of the weights
    settings = network.compute_dtype, network.channels_last
    network.compute_dtype, network.channels_last = None, True
    network.eval()
    parts: list[tuple[Floats, Floats]] = []
    try:
        with torch.inference_mode():
            start = 0
            while start < len(rows):
                try:
                    x = normalised(batch(rows[start : start + batch_size]).to(device), mean, std)
                    parts.append(_mean_of_views(network, x, tta_views))
                except (RuntimeError, MemoryError) as error:
                    if not out_of_memory(error) or batch_size == 1:
                        raise
                    batch_size //= 2
                else:
                    start += batch_size
                    on_batch()
    finally:
        network.compute_dtype, network.channels_last = settings
    mean_of_views, first = zip(*parts, strict=True)
    return np.concatenate(mean_of_views), np.concatenate(first)


def _mean_of_views(network: Network, x: Tensor, tta_views: Sequence[View]) -> tuple[Floats, Floats]:
    first = total = network(tta_views[0](x)).cpu().double().softmax(1)
    for view in tta_views[1:]:
        total = total + network(view(x)).cpu().double().softmax(1)
    return (total / len(tta_views)).float().numpy(), first.float().numpy()


def normalised(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (n, 3, h, w) as float32: (pixels / 255 - mean) / std."""
    scale = torch.tensor(std, dtype=torch.float32, device=pixels.device).view(1, 3, 1, 1)
    shift = torch.tensor(mean, dtype=torch.float32, device=pixels.device).view(1, 3, 1, 1)
    return pixels.float() * (1 / (255 * scale)) - shift / scale
