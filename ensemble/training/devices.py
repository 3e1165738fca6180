"""Which device trains: CUDA, then MPS, then the CPU, unless one is named."""

from __future__ import annotations

import torch

from ensemble.errors import RecipeError


def choose_device(name: str | None) -> torch.device:
    """The device called `name` (`cpu`, `cuda`, `cuda:1`, `mps`), or the best there is. Raises RecipeError."""
    if name in (None, "auto"):
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert name is not None
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise RecipeError(
            f"device {name!r} is not usable here; type --device cpu, cuda or mps, or leave it out"
        ) from error
    return device


def describe(device: torch.device) -> str:
    """`cuda (NVIDIA H200)`, `cpu (2 threads)`."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} threads)"
    return str(device)
