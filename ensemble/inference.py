"""From images to probabilities with one trained network. Above the waterline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ensemble.data.pixels import Pixels
from ensemble.models.network import Network
from ensemble.predictions import Floats
from ensemble.registry import Registry

View = Callable[[Tensor], Tensor]

views: Registry[tuple[View, ...]] = Registry("test-time augmentation")


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _mirrored(x: Tensor) -> Tensor:
    return x.flip(-1)


views.register("none")((_as_it_is,))
views.register("flip")((_as_it_is, _mirrored))


def predict(
    network: Network,
    squares: Iterator[Pixels],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    tta: str = "none",
    batch_size: int = 128,
    on_batch: Callable[[], None] = lambda: None,
) -> Floats:
    """float32 (n, k): the mean of the softmax over the views of each image, computed in float32.

    squares: uint8 (size, size, 3) each.  mean, std: three numbers each, for pixels between 0 and 1.
    """
    device = next(network.parameters()).device
    scale, shift = _affine(mean, std, device)
    wanted = views.get(tta)
    training_dtype, network.compute_dtype = network.compute_dtype, None
    network.eval()
    parts = []
    try:
        with torch.inference_mode():
            for batch in _batches(squares, batch_size):
                x = torch.from_numpy(batch).to(device).permute(0, 3, 1, 2).float() * scale - shift
                total = sum(network(view(x)).cpu().double().softmax(1) for view in wanted)
                assert isinstance(total, Tensor)
                parts.append((total / len(wanted)).float().numpy())
                on_batch()
    finally:
        network.compute_dtype = training_dtype
    return np.concatenate(parts)


def _affine(mean: Sequence[float], std: Sequence[float], device: torch.device) -> tuple[Tensor, Tensor]:
    """x/255 normalised is x * scale - shift."""
    spread = torch.tensor(std, dtype=torch.float32, device=device).view(1, 3, 1, 1)
    centre = torch.tensor(mean, dtype=torch.float32, device=device).view(1, 3, 1, 1)
    return 1 / (255 * spread), centre / spread


def _batches(squares: Iterator[Pixels], size: int) -> Iterator[Pixels]:
    held: list[Pixels] = []
    for square in squares:
        held.append(square)
        if len(held) == size:
            yield np.stack(held)
            held = []
    if held:
        yield np.stack(held)
