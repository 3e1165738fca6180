"""In which numeric format a network computes, and how its weights and images lie in memory."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ensemble.models.network import Network

DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
PAIRS = (
    ("float32", "default"),
    ("float32", "channels_last"),
    ("bfloat16", "channels_last"),
    ("float16", "channels_last"),
)


@dataclass(frozen=True)
class Format:
    """precision: float32, bfloat16 or float16.  layout: default or channels_last.  why: asked for, or measured.

    compiled: whether torch.compile makes the network's code.  speed: training images a second where measured.
    """

    precision: str
    layout: str
    why: str
    compiled: bool = False
    speed: float | None = None

    def facts(self) -> dict[str, Any]:
        """What a run records."""
        return asdict(self)


def pairs(precision: str, layout: str, device: torch.device) -> list[tuple[str, str]]:
    """The pairs of precision and layout that a recipe's two keys leave on a device; at least one.

    `auto` never means float16 on a processor, which only pretends to have it, nor bfloat16 on a GPU without it.
    """
    wanted = [pair for pair in PAIRS if precision in ("auto", pair[0]) and layout in ("auto", pair[1])]
    if precision == "auto":
        wanted = [pair for pair in wanted if pair[0] in _native(device)]
    return wanted or [(precision, layout)]


def _native(device: torch.device) -> tuple[str, ...]:
    if device.type == "cuda":
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("float32", "bfloat16", "float16") if has_bfloat16 else ("float32", "float16")
    return ("float32", "bfloat16") if device.type == "cpu" else ("float32",)


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile has what it needs: a compiler of C++ on a processor, Triton on a GPU."""
    if device.type == "cpu":
        return any(shutil.which(name) for name in ("g++", "clang++", "cl"))
    if device.type != "cuda":
        return False
    from importlib.util import find_spec

    return find_spec("triton") is not None


def apply_format(network: Network, chosen: Format) -> None:
    """Set the network's precision, lay its weights out, and have its code made where that was chosen."""
    network.compute_dtype = DTYPES[chosen.precision]
    network.channels_last = chosen.layout == "channels_last"
    network.to(memory_format=torch.channels_last if network.channels_last else torch.contiguous_format)
    network.compiled = chosen.compiled
