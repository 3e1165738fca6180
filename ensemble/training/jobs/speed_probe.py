"""Speed of a network by numeric format, measured by a short probe that is cached for this machine."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import torch
from platformdirs import user_cache_path

from ensemble.core.errors import DataError, EnsError
from ensemble.core.files import read_json, sha256_json, write_json
from ensemble.models.layers import kept_parameters, set_mode
from ensemble.models.network import Network
from ensemble.recipe.schema import ResolvedRecipe
from ensemble.training.engine.hardware import ComputeFormat, apply_format, can_compile, describe, pairs
from ensemble.training.jobs.timing import STEPS, LoadCheck, Steps, random_batch, rate, wait

T = TypeVar("T")

MIN_ROUNDING_SPEEDUP = 1.05
"""Minimum speed-up for a format of lower precision, as a probe of a few steps is not exact."""
MIN_COMPILING_SECONDS = 1800.0
"""Minimum seconds of training for torch.compile to be tried: shorter ones cannot make up for compilation."""
_SHAPE_KEYS = {"arch", "stem", "image_size", "filters", "kernel", "block_depth", "dense", "batch_norm"}
_SPEED_KEYS = {"freeze_norms", "fast_convolutions"}
_PROBE_VERSION = 5
"""Version of the probe; incremented when the measurement changes, which invalidates cached results."""


@dataclass(frozen=True)
class Speed:
    """Images per second: training only the head, training all layers, validating, and predicting in float32."""

    head: float
    all: float
    valid: float
    predict: float


def choose_format(recipe: ResolvedRecipe, network: Network, device: torch.device) -> ComputeFormat:
    """The fastest of the formats that the recipe allows, without torch.compile.

    The choice is cached by architecture, size, device, threads and torch version, so that the same recipe has the
    same results on the same machine. Its speed is left out if other processes slowed the measurement down.
    """
    candidates = pairs(recipe.precision, recipe.layout, device)
    graphed = device.type == "cuda"
    if len(candidates) == 1:
        requested = "auto" not in (recipe.precision, recipe.layout)
        reason = "asked for" if requested else "the only one that this device is good at"
        return ComputeFormat(*candidates[0], why=reason, graphed=graphed)

    def measure() -> dict[str, Any]:
        _freeze_norms(recipe, network)
        speeds = {}
        x = random_batch(recipe, device)
        load_check = LoadCheck(device)
        for pair in candidates:
            apply_format(network, ComputeFormat(*pair, why="", graphed=graphed))
            speeds[pair] = rate(network, x, training=True)
        best = best_pair(speeds)
        figures = ", ".join(f"{precision} {layout} {speed:.0f}" for (precision, layout), speed in speeds.items())
        measured_speed = speeds[best] if load_check.undisturbed else None
        return ComputeFormat(
            *best, why=f"training images a second: {figures}", graphed=graphed, speed=measured_speed
        ).facts()

    return cached("formats", [network_key(recipe), _machine(device)], network, measure, ComputeFormat.read)


def best_pair(speeds: Mapping[tuple[str, str], float]) -> tuple[str, str]:
    """The fastest pair of precision and layout; float16 or bfloat16 only if faster by MIN_ROUNDING_SPEEDUP.

    speeds: images per second, in order of preference.
    """
    fastest: dict[str, tuple[str, str]] = {}
    for pair, speed in speeds.items():
        if pair[0] not in fastest or speed > speeds[fastest[pair[0]]]:
            fastest[pair[0]] = pair
    best, *others = fastest.values()
    for pair in others:
        if speeds[pair] > MIN_ROUNDING_SPEEDUP * speeds[best]:
            best = pair
    return best


def measure_speed(
    recipe: ResolvedRecipe, network: Network, device: torch.device, compute_format: ComputeFormat
) -> Speed:
    """Speed of `network`, which is in `compute_format`, in training and prediction.

    Cached like the choice of format, unless other processes used the CPU during the measurement.
    """
    load_check = LoadCheck(device)

    def measure() -> dict[str, Any]:
        _freeze_norms(recipe, network)
        x = random_batch(recipe, device)
        body, _ = network.children()
        all_layers = compute_format.speed or rate(network, x, training=True)
        valid = rate(network, x, training=False)
        for parameter in body.parameters():
            parameter.requires_grad_(False)
        head = rate(network, x, training=True)
        network.compute_dtype = None
        predict = rate(network, x, training=False)
        return asdict(Speed(head, all_layers, valid, predict))

    key = [network_key(recipe), _machine(device), compute_format.precision, compute_format.layout]
    return cached("speeds", key, network, measure, lambda facts: Speed(**facts), lambda: load_check.undisturbed)


def compiling_pays(
    recipe: ResolvedRecipe, network: Network, device: torch.device, seconds: float
) -> tuple[bool, str]:
    """Whether torch.compile shortens a training of `seconds` by at least 5 %, and the measurements as text.

    Not tried for trainings below half an hour, without a compiler, or where depthwise convolutions have
    this package's gradients, which a compiler does not see: EfficientNet-Lite0 then ran at 12 images a second
    instead of 63, and to find that out took 106 s.
    """
    fast = device.type == "cpu" and network.fast_depthwise
    if seconds < MIN_COMPILING_SECONDS or fast or not can_compile(device):
        return False, ""

    def measure() -> dict[str, Any]:
        _freeze_norms(recipe, network)
        x = random_batch(recipe, device)
        plain = rate(network, x, training=True)
        network.compiled = True
        # it warns of missing CUDA on a machine without a GPU
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        started = time.perf_counter()
        try:
            set_mode(network, True)
            Steps(network, training=True)(x)
            compile_seconds = time.perf_counter() - started
            compiled = rate(network, x, training=True)
        except Exception as error:  # a compiler may fail in any way; the uncompiled network works
            return {"making": 0.0, "gain": 0.0, "why": f"torch.compile failed ({type(error).__name__})"}
        reason = f"torch.compile {compiled:.0f} against {plain:.0f} images a second after {compile_seconds:.0f} s"
        return {"making": compile_seconds, "gain": compiled / plain, "why": reason}

    dtype = str(network.compute_dtype)
    key = [network_key(recipe), _machine(device), dtype, network.channels_last]
    result = cached("compiled", key, network, measure, lambda facts: facts)
    pays = result["gain"] > 0 and result["making"] + seconds / result["gain"] < 0.95 * seconds
    return pays, str(result["why"])


def training_pace(
    recipe: ResolvedRecipe, network: Network, device: torch.device
) -> Callable[[float, float], float]:
    """A function that measures training on a random batch: (start by `time.time`, seconds) to images per second.

    It returns 0 if the start has passed. Processes that receive the same start thus measure simultaneously.
    """
    x = random_batch(recipe, device)
    _freeze_norms(recipe, network)
    set_mode(network, True)
    step = Steps(network, training=True)
    if device.type != "cpu":  # the first step includes one-time set-up
        step(x)
        wait(device)

    def measured(begin: float, seconds: float) -> float:
        delay = begin - time.time()
        if delay < 0:
            return 0.0
        time.sleep(delay)
        steps = 0
        while time.time() < begin + seconds:
            for _ in range(STEPS):
                step(x)
            wait(device)
            steps += STEPS
        return steps * len(x) / (time.time() - begin)

    return measured


def _freeze_norms(recipe: ResolvedRecipe, network: Network) -> None:
    """Freeze the norms that the recipe freezes, as in the stages that take most of the time."""
    for parameter in kept_parameters(network[0], recipe.freeze_norms):
        parameter.requires_grad_(False)


def network_key(recipe: ResolvedRecipe) -> str:
    """Hash of the recipe keys that determine the speed of the network."""
    return sha256_json(
        [recipe.model_dump(include=_SHAPE_KEYS | _SPEED_KEYS), recipe.precision, recipe.layout, recipe.batch_size]
    )


def _machine(device: torch.device) -> list[Any]:
    return [_PROBE_VERSION, describe(device), torch.__version__, torch.backends.cpu.get_cpu_capability()]


def cached(
    folder: str,
    key: list[Any],
    network: Network,
    measure: Callable[[], dict[str, Any]],
    read: Callable[[Any], T],
    keep: Callable[[], bool] = lambda: True,
) -> T:
    """The cached result of `measure` for `key`, converted by `read`; `network` is restored after a measurement.

    keep: called after a measurement; whether to cache it.
    """
    path = user_cache_path("ensemble") / folder / f"{sha256_json(key)[:16]}.json"
    with contextlib.suppress(DataError, KeyError, TypeError):
        return read(read_json(path))
    with _restored(network):
        result = measure()
    if keep():
        with contextlib.suppress(EnsError):  # an unwritable cache only costs another measurement
            write_json(path, result)
    return read(result)


@contextlib.contextmanager
def _restored(network: Network) -> Iterator[None]:
    """Context that restores buffers, format and `requires_grad` of the network and clears the gradients."""
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    before = network.compute_dtype, network.channels_last, network.compiled, network.graphed
    try:
        yield
    finally:
        network.compute_dtype, network.channels_last, network.compiled, network.graphed = before
        network.forget_graphs()
        network.zero_grad(set_to_none=True)
        for parameter in trainable:
            parameter.requires_grad_(True)
        for name, value in network.named_buffers():
            value.copy_(buffers[name])
