"""Which numeric format and memory layout trains fastest here: a short probe, remembered for this machine."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

import torch
from platformdirs import user_cache_path

from ensemble.errors import DataError, EnsError
from ensemble.files import read_json, sha256_json, write_json
from ensemble.models.network import Network
from ensemble.recipe.schema import Recipe

DTYPES = {"float32": None, "bfloat16": torch.bfloat16}
CANDIDATES = (("float32", "default"), ("float32", "channels_last"), ("bfloat16", "channels_last"))
PROBE_BATCH, STEPS = 32, 2


@dataclass(frozen=True)
class Format:
    """precision: float32 or bfloat16.  layout: default or channels_last.  why: asked for, or measured."""

    precision: str
    layout: str
    why: str


def choose_format(recipe: Recipe, network: Network, device: torch.device) -> Format:
    """What the recipe asks for; `auto` is measured on the CPU and follows the device's abilities elsewhere.

    The measurement is remembered for architecture, size, device, threads and torch version, so that the same
    recipe computes the same thing on the same machine.
    """
    wanted = [
        (precision, layout)
        for precision, layout in CANDIDATES
        if recipe.precision in ("auto", precision) and recipe.layout in ("auto", layout)
    ]
    if "auto" not in (recipe.precision, recipe.layout):
        return Format(recipe.precision, recipe.layout, "asked for")
    if device.type == "mps":
        return Format(*wanted[0], why="the plain format of this device")
    if device.type == "cuda":
        best = wanted[-1] if torch.cuda.is_bf16_supported(including_emulation=False) else wanted[0]
        return Format(*best, why="what this GPU has units for")
    if len(wanted) == 1:
        return Format(*wanted[0], why="asked for")
    return _remembered(recipe, network, device, wanted)


def apply_format(network: Network, chosen: Format) -> None:
    """Set the network's precision and lay its weights out."""
    network.compute_dtype = DTYPES[chosen.precision]
    network.channels_last = chosen.layout == "channels_last"
    network.to(memory_format=torch.channels_last if network.channels_last else torch.contiguous_format)


def _remembered(recipe: Recipe, network: Network, device: torch.device, wanted: list[tuple[str, str]]) -> Format:
    shape = recipe.model_dump(include={"arch", "stem", "image_size", "filters", "kernel", "dense", "batch_norm"})
    machine = [device.type, torch.get_num_threads(), torch.__version__, torch.backends.cpu.get_cpu_capability()]
    key = sha256_json([shape, machine, wanted])
    path = user_cache_path("ensemble") / "formats" / f"{key[:16]}.json"
    with contextlib.suppress(DataError, KeyError, TypeError):
        known = read_json(path)
        return Format(known["precision"], known["layout"], known["why"])
    chosen = _measured(network, recipe.image_size or 224, min(PROBE_BATCH, recipe.batch_size), wanted)
    with contextlib.suppress(EnsError):  # a cache that cannot be written costs a measurement, not a run
        write_json(path, {"precision": chosen.precision, "layout": chosen.layout, "why": chosen.why})
    return chosen


def _measured(network: Network, size: int, batch: int, wanted: list[tuple[str, str]]) -> Format:
    speeds: dict[tuple[str, str], float] = {}
    for precision, layout in wanted:
        apply_format(network, Format(precision, layout, ""))
        speeds[precision, layout] = _images_a_second(network, size, batch)
    best = max(speeds, key=lambda choice: speeds[choice])
    why = ", ".join(f"{precision} {layout} {speed:.0f}" for (precision, layout), speed in speeds.items())
    return Format(*best, why=f"training images a second: {why}")


def _images_a_second(network: Network, size: int, count: int) -> float:
    """Forward and backward on a random batch; gradients are dropped and batch-norm statistics put back."""
    before = {name: value.clone() for name, value in network.named_buffers()}
    batch = torch.rand(count, 3, size, size)
    network.train()
    times = []
    for _ in range(STEPS + 1):
        started = time.perf_counter()
        network(batch).square().mean().backward()
        times.append(time.perf_counter() - started)
        if times[0] > 20:  # a format that this machine only emulates
            break
    network.zero_grad(set_to_none=True)
    for name, value in network.named_buffers():
        value.copy_(before[name])
    return count / min(times[1:] or times)
