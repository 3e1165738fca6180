"""Where a network looks: gradient-weighted class activation mapping (Selvaraju et al. 2017)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ensemble.errors import DataError
from ensemble.models.network import Network


def grad_cam(network: Network, x: Tensor, c: int | None = None) -> tuple[Tensor, Tensor]:
    """(map float (h, w) between 0 and 1, probabilities float (k,)) of one normalised image x (1, 3, h, w).

    c: the class that is asked about, the most probable one where it is None. The features are the last that have
    places: the output, four-dimensional and larger than one pixel, of the module that ran last. Raises DataError
    for a network without such features, as a vision transformer is.
    """
    found: list[Tensor] = []

    def keep(module: nn.Module, args: Any, out: Any) -> None:
        if isinstance(out, Tensor) and out.ndim == 4 and min(out.shape[2:]) > 1 and out.requires_grad:
            found.append(out)

    body, _ = network.children()
    handles = [module.register_forward_hook(keep) for module in body.modules()]
    try:
        with torch.enable_grad():
            logits = network(x.clone().requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise DataError("this network has no features with places, which Grad-CAM draws; name a convolutional one")
    probs = logits[0].detach().softmax(0)
    asked = int(probs.argmax()) if c is None else c
    (gradient,) = torch.autograd.grad(logits[0, asked], found[-1])
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    cam = (weights * found[-1].detach()).sum(1, keepdim=True).relu()
    cam = functional.interpolate(cam, x.shape[-2:], mode="bilinear", align_corners=False)[0, 0]
    highest = cam.max()
    return (cam / highest if highest > 0 else cam).cpu(), probs.cpu()
