"""Gradients of depthwise convolutions on a processor: torch's own and ours, and whole training steps.

    python tests/benchmarks/depthwise.py RESULT.json [--threads N]

One thread unless told otherwise. Milliseconds of the fastest of some calls, for convolutions of EfficientNet-Lite0
and ConvNeXt; then images a second of steps (forward and backward, norms kept, batches of 64 at 96 pixels).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from machine import facts
from torch.nn import functional as F

from ensemble.core.files import write_json
from ensemble.models.fast_convolutions import FastConvolutions, filters_gradient, images_gradient, library_gradient
from ensemble.models.layers import kept_parameters, set_mode

SHAPES = [
    (32, 48, 3, 1),
    (96, 48, 3, 2),
    (144, 24, 5, 2),
    (240, 12, 5, 1),
    (480, 6, 5, 1),
    (672, 6, 5, 2),
    (1152, 3, 5, 1),
    (80, 8, 7, 1),
    (768, 7, 7, 1),
]
"""Channels, side of the images, side of the filters, stride."""
ARCHS = ("tf_efficientnet_lite0", "mobilenetv2_100", "efficientnet_b0", "resnet18")
BATCH, SIDE = 64, 96


def fastest(call: Callable[[], Any], times: int = 5) -> float:
    """Seconds."""
    call()
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def gradients(dtype: torch.dtype) -> dict[str, dict[str, float]]:
    """Milliseconds by shape."""
    result = {}
    for channels, side, size, stride in SHAPES:
        images = torch.randn(BATCH, channels, side, side).to(dtype).to(memory_format=torch.channels_last)
        filters, padding = torch.randn(channels, 1, size, size).to(dtype), size // 2
        gradient = torch.randn_like(torch.conv2d(images, filters, None, stride, padding, 1, channels))
        parts = gradient, images, filters, stride, padding
        calls: dict[str, Callable[[], Any]] = {
            "images, library": lambda parts=parts: library_gradient(*parts, 0),
            "images, ours": lambda parts=parts: images_gradient(*parts),
            "filters, library": lambda parts=parts: library_gradient(*parts, 1),
            "filters, ours": lambda parts=parts: filters_gradient(*parts),
        }
        result[f"{channels} x {side} x {side}, {size} x {size}, stride {stride}"] = {
            name: round(1000 * fastest(call), 2) for name, call in calls.items()
        }
    return result


def steps(arch: str, bfloat16: bool, fast: bool) -> float:
    """Images a second."""
    torch.manual_seed(0)
    network = timm.create_model(arch, num_classes=10).to(memory_format=torch.channels_last)
    for parameter in kept_parameters(network, "statistics"):
        parameter.requires_grad_(False)
    set_mode(network, True)
    images = torch.randn(BATCH, 3, SIDE, SIDE).to(memory_format=torch.channels_last)
    labels = torch.arange(BATCH) % 10
    mode = FastConvolutions(network, SIDE) if fast else None

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            if mode:
                with mode:
                    outputs = network(images)
            else:
                outputs = network(images)
        F.cross_entropy(outputs.float(), labels).backward()
        network.zero_grad()

    return round(BATCH / fastest(step, 3), 1)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result: dict[str, Any] = {
        "machine": facts(),
        "threads": args.threads,
        "milliseconds": {},
        "images a second": {},
    }
    for dtype in (torch.float32, torch.bfloat16):
        result["milliseconds"][str(dtype).removeprefix("torch.")] = gradients(dtype)
    for arch in ARCHS:
        for bfloat16 in (False, True):
            speeds = {"library": steps(arch, bfloat16, False), "ours": steps(arch, bfloat16, True)}
            name = f"{arch} {'bfloat16' if bfloat16 else 'float32'}"
            result["images a second"][name] = speeds
            print(name, speeds, flush=True)
    write_json(args.result, result)


if __name__ == "__main__":
    main()
