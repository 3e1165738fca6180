"""In which numeric format a network computes, and how its weights and images lie in memory."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
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
    graphed: whether a step is a CUDA graph, where the batch is taken as a whole and the network allows it.
    """

    precision: str
    layout: str
    why: str
    compiled: bool = False
    graphed: bool = False
    speed: float | None = None

    def facts(self) -> dict[str, Any]:
        """What a run records."""
        return asdict(self)

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> Format:
        """What `facts` wrote, by this version or a newer one that knows more keys."""
        return cls(**{field.name: facts[field.name] for field in fields(cls) if field.name in facts})


def pairs(precision: str, layout: str, device: torch.device) -> list[tuple[str, str]]:
    """The pairs of precision and layout that a recipe's two keys leave on a device; at least one.

    `auto` never means float16 on a processor, which only pretends to have it, nor bfloat16 on a GPU without it.
    """
    if layout == "auto":
        wanted = [pair for pair in PAIRS if precision in ("auto", pair[0])]
    else:
        wanted = [(name, layout) for name in DTYPES if precision in ("auto", name)]
    return [pair for pair in wanted if precision != "auto" or pair[0] in _native(device)]


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


def forget_compiled() -> None:
    """Drop the code of networks that are done with: torch keeps a few versions of one function, then no more."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


def apply_format(network: Network, chosen: Format) -> None:
    """Set the network's precision, lay its weights out, and have its code made where that was chosen."""
    network.compute_dtype = DTYPES[chosen.precision]
    network.channels_last = chosen.layout == "channels_last"
    network.to(memory_format=torch.channels_last if network.channels_last else torch.contiguous_format)
    network.compiled, network.graphed = chosen.compiled, chosen.graphed
    network.forget_graphs()
