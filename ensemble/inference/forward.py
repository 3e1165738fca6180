"""From images to probabilities with one trained network; memory that runs out."""

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
    """Whether the device or the computer had no memory left for a tensor."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    signs = ("out of memory", "can't allocate memory", "alloc_failed")
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)


def keep_freed_memory() -> None:
    """Have the C library keep what is freed for what is asked for next, rather than hand it back to the system.

    Every large tensor would else be new memory, which the system fills with zeros page by page at the first touch.
    Only glibc has these settings (mallopt); elsewhere nothing is done.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = _glibc()
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, -1)


def give_freed_memory_back() -> None:
    """Hand what is free now back to the system: the next member may be a smaller one."""
    with contextlib.suppress(OSError, AttributeError):
        _glibc().malloc_trim(0)


def _glibc() -> ctypes.CDLL:
    """Raises OSError where there is none."""
    if not sys.platform.startswith("linux"):
        raise OSError("no glibc")
    return ctypes.CDLL("libc.so.6")


View = Callable[[Tensor], Tensor]

views: Registry[tuple[View, ...]] = Registry("test-time augmentation")


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _mirrored(x: Tensor) -> Tensor:
    return x.flip(-1)


def _moved(x: Tensor, step: int) -> Tensor:
    """Moved down and to the right by `step` pixels (up and to the left where negative), mirrored at the border."""
    side = x.shape[-1]
    margin = abs(step)
    start = margin - step
    return functional.pad(x, (margin,) * 4, mode="reflect")[..., start : start + x.shape[-2], start : start + side]


def _corner(sign: int, mirrored: bool) -> View:
    def view(x: Tensor) -> Tensor:
        moved = _moved(x, sign * max(1, x.shape[-1] // 32))
        return moved.flip(-1) if mirrored else moved

    return view


def _turned(turns: int, mirrored: bool) -> View:
    """A quarter turn so often, mirrored first."""

    def view(x: Tensor) -> Tensor:
        return (x.flip(-1) if mirrored else x).rot90(turns, (-2, -1))

    return view


def _part(down: float, right: float) -> View:
    """Seven eighths of each side, so far (0 to 1) from the top and the left, as large as the whole again."""

    def view(x: Tensor) -> Tensor:
        size = x.shape[-2:]
        part = [max(1, round(7 / 8 * side)) for side in size]
        top, left = round(down * (size[0] - part[0])), round(right * (size[1] - part[1]))
        cropped = x[..., top : top + part[0], left : left + part[1]]
        return functional.interpolate(cropped, size, mode="bilinear", align_corners=False)

    return view


views.register("none")((_as_it_is,))
views.register("flip")((_as_it_is, _mirrored))
views.register("flips")((_as_it_is, _mirrored, lambda x: x.flip(-2), lambda x: x.flip(-2, -1)))
views.register("dihedral")(tuple(_turned(turns, mirrored) for mirrored in (False, True) for turns in range(4)))
views.register("crops")((_as_it_is, *(_part(*place) for place in ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5)))))
# the six views of "94% on CIFAR-10 in 3.29 seconds on a single GPU" (Jordan 2024)
views.register("flip-shift")(
    (_as_it_is, _mirrored, *(_corner(sign, mirrored) for sign in (-1, 1) for mirrored in (False, True)))
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
    """float32 (n, k) twice, softmax computed in float32: the mean over the views, and the first view's, as it is.

    A batch that does not fit into memory is halved.

    batch: rows -> uint8 (b, 3, size, size).  rows: int64 (n,).  mean, std: three numbers each, for pixels
    between 0 and 1.
    """
    device = next(network.parameters()).device
    wanted = views.get(tta)
    # pixels lie with the channels last, so that is the fastest way to hand them on, however the weights lie
    before = network.compute_dtype, network.channels_last
    network.compute_dtype, network.channels_last = None, True
    network.eval()
    parts: list[tuple[Floats, Floats]] = []
    try:
        with torch.inference_mode():
            start = 0
            while start < len(rows):
                try:
                    x = normalised(batch(rows[start : start + batch_size]).to(device), mean, std)
                    parts.append(_mean_of_views(network, x, wanted))
                except (RuntimeError, MemoryError) as error:
                    if not out_of_memory(error) or batch_size == 1:
                        raise
                    batch_size //= 2
                else:
                    start += batch_size
                    on_batch()
    finally:
        network.compute_dtype, network.channels_last = before
    mean_of_views, first = zip(*parts, strict=True)
    return np.concatenate(mean_of_views), np.concatenate(first)


def _mean_of_views(network: Network, x: Tensor, wanted: Sequence[View]) -> tuple[Floats, Floats]:
    first = total = network(wanted[0](x)).cpu().double().softmax(1)
    for view in wanted[1:]:
        total = total + network(view(x)).cpu().double().softmax(1)
    return (total / len(wanted)).float().numpy(), first.float().numpy()


def normalised(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (n, 3, h, w) as float32: (pixels / 255 - mean) / std."""
    spread = torch.tensor(std, dtype=torch.float32, device=pixels.device).view(1, 3, 1, 1)
    centre = torch.tensor(mean, dtype=torch.float32, device=pixels.device).view(1, 3, 1, 1)
    return pixels.float() * (1 / (255 * spread)) - centre / spread
