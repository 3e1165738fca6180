"""How fast a network is in which format, by a short probe that is remembered for this machine."""

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
from ensemble.recipe.schema import Recipe
from ensemble.training.engine.hardware import ComputeFormat, apply_format, can_compile, describe, pairs
from ensemble.training.jobs.timing import STEPS, Alone, Steps, pixels, rate, wait

T = TypeVar("T")

WORTH_ROUNDING = 1.05
"""How much faster a format of fewer bits must be than one of more: a probe of a few steps is not exact."""
WORTH_COMPILING = 1800.0
"""Seconds of training below which code that is made for the network has no time to pay."""
_SHAPE = {"arch", "stem", "image_size", "filters", "kernel", "block_depth", "dense", "batch_norm"}
_SPEED = {"freeze_norms", "fast_convolutions"}
_PROBE = 5
"""Raised when what is measured changes, so that remembered answers are asked again."""


@dataclass(frozen=True)
class Speed:
    """Images a second: training the head alone, training everything, validating, and predicting in float32."""

    head: float
    all: float
    valid: float
    predict: float


def choose_format(recipe: Recipe, network: Network, device: torch.device) -> ComputeFormat:
    """The fastest of the formats that the recipe leaves, without torch.compile, and the network in it.

    What is measured is remembered for architecture, size, device, threads and torch version, so that the same
    recipe computes the same thing on the same machine. Its speed is not, where other work slowed it down.
    """
    wanted = pairs(recipe.precision, recipe.layout, device)
    graphed = device.type == "cuda"
    if len(wanted) == 1:
        asked = "auto" not in (recipe.precision, recipe.layout)
        why = "asked for" if asked else "the only one that this device is good at"
        return ComputeFormat(*wanted[0], why=why, graphed=graphed)

    def measure() -> dict[str, Any]:
        _keep_norms(recipe, network)
        speeds = {}
        x = pixels(recipe, device)
        alone = Alone(device)
        for pair in wanted:
            apply_format(network, ComputeFormat(*pair, why="", graphed=graphed))
            speeds[pair] = rate(network, x, training=True)
        best = _best(speeds)
        found = ", ".join(f"{precision} {layout} {speed:.0f}" for (precision, layout), speed in speeds.items())
        known = speeds[best] if alone.was else None
        return ComputeFormat(*best, why=f"training images a second: {found}", graphed=graphed, speed=known).facts()

    return _remembered("formats", [network_key(recipe), _machine(device)], network, measure, ComputeFormat.read)


def _best(speeds: Mapping[tuple[str, str], float]) -> tuple[str, str]:
    """The fastest pair of precision and layout; a float16 or bfloat16 only where it is clearly faster.

    speeds: images a second, in the order of preference.
    """
    fastest: dict[str, tuple[str, str]] = {}
    for pair, speed in speeds.items():
        if pair[0] not in fastest or speed > speeds[fastest[pair[0]]]:
            fastest[pair[0]] = pair
    best, *others = fastest.values()
    for pair in others:
        if speeds[pair] > WORTH_ROUNDING * speeds[best]:
            best = pair
    return best


def measure_speed(recipe: Recipe, network: Network, device: torch.device, chosen: ComputeFormat) -> Speed:
    """How fast `network`, which is in the format `chosen`, trains and predicts.

    Remembered as formats are, but for what was measured while other work kept the processors busy.
    """
    alone = Alone(device)

    def measure() -> dict[str, Any]:
        _keep_norms(recipe, network)
        x = pixels(recipe, device)
        body, _ = network.children()
        everything = chosen.speed or rate(network, x, training=True)
        valid = rate(network, x, training=False)
        for parameter in body.parameters():
            parameter.requires_grad_(False)
        head = rate(network, x, training=True)
        network.compute_dtype = None
        predict = rate(network, x, training=False)
        return asdict(Speed(head, everything, valid, predict))

    key = [network_key(recipe), _machine(device), chosen.precision, chosen.layout]
    return _remembered("speeds", key, network, measure, lambda facts: Speed(**facts), lambda: alone.was)


def compiling_pays(recipe: Recipe, network: Network, device: torch.device, seconds: float) -> tuple[bool, str]:
    """Whether torch.compile shortens a training of `seconds`, by at least a twentieth, and the figures.

    Nothing is tried for trainings below half an hour, nor where there is no compiler.
    """
    if seconds < WORTH_COMPILING or not can_compile(device):
        return False, ""

    def measure() -> dict[str, Any]:
        _keep_norms(recipe, network)
        x = pixels(recipe, device)
        plain = rate(network, x, training=True)
        network.compiled = True
        # it warns of a CUDA that a machine without a GPU does not have
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        started = time.perf_counter()
        try:
            set_mode(network, True)
            Steps(network, training=True)(x)
            making = time.perf_counter() - started
            made = rate(network, x, training=True)
        except Exception as error:  # whatever a compiler stumbles over, the plain network works
            return {"making": 0.0, "gain": 0.0, "why": f"torch.compile failed ({type(error).__name__})"}
        why = f"torch.compile {made:.0f} against {plain:.0f} images a second after {making:.0f} s"
        return {"making": making, "gain": made / plain, "why": why}

    dtype = str(network.compute_dtype)
    key = [network_key(recipe), _machine(device), dtype, network.channels_last]
    found = _remembered("compiled", key, network, measure, lambda facts: facts)
    pays = found["gain"] > 0 and found["making"] + seconds / found["gain"] < 0.95 * seconds
    return pays, str(found["why"])


def training_pace(recipe: Recipe, network: Network, device: torch.device) -> Callable[[float, float], float]:
    """What trains `network` on a random batch from a time (of `time.time`) on, for some seconds: images a second.

    It gives 0 where that time has passed. Several processes that are given the same time thus run together.
    """
    x = pixels(recipe, device)
    _keep_norms(recipe, network)
    set_mode(network, True)
    step = Steps(network, training=True)
    if device.type != "cpu":  # what only the first step takes long for
        step(x)
        wait(device)

    def measured(begin: float, seconds: float) -> float:
        left = begin - time.time()
        if left < 0:
            return 0.0
        time.sleep(left)
        steps = 0
        while time.time() < begin + seconds:
            for _ in range(STEPS):
                step(x)
            wait(device)
            steps += STEPS
        return steps * len(x) / (time.time() - begin)

    return measured


def _keep_norms(recipe: Recipe, network: Network) -> None:
    """As in the stages that take most of the time."""
    for parameter in kept_parameters(network[0], recipe.freeze_norms):
        parameter.requires_grad_(False)


def network_key(recipe: Recipe) -> str:
    """What recipes whose networks are equally fast have in common."""
    return sha256_json(
        [recipe.model_dump(include=_SHAPE | _SPEED), recipe.precision, recipe.layout, recipe.batch_size]
    )


def _machine(device: torch.device) -> list[Any]:
    return [_PROBE, describe(device), torch.__version__, torch.backends.cpu.get_cpu_capability()]


def _remembered(
    folder: str,
    key: list[Any],
    network: Network,
    measure: Callable[[], dict[str, Any]],
    read: Callable[[Any], T],
    keep: Callable[[], bool] = lambda: True,
) -> T:
    """What `measure`, which leaves no trace in `network`, once found for `key`, as `read` understands it.

    keep: asked after a measurement, whether to remember it.
    """
    path = user_cache_path("ensemble") / folder / f"{sha256_json(key)[:16]}.json"
    with contextlib.suppress(DataError, KeyError, TypeError):
        return read(read_json(path))
    with _untouched(network):
        found = measure()
    if keep():
        with contextlib.suppress(EnsError):  # a cache that cannot be written costs a measurement, not a run
            write_json(path, found)
    return read(found)


@contextlib.contextmanager
def _untouched(network: Network) -> Iterator[None]:
    """Afterwards buffers and format are as before, there are no gradients, and the same parameters learn."""
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    before = network.compute_dtype, network.channels_last, network.compiled, network.graphed
    try:
        yield
    finally:
        network.compute_dtype, network.channels_last, network.compiled, network.graphed = before
        network.forget_graphs()
        network.zero_grad(set_to_none=True)
        for parameter in learning:
            parameter.requires_grad_(True)
        for name, value in network.named_buffers():
            value.copy_(buffers[name])
