"""How many images a second a network trains on or predicts: a few steps on a random batch."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import SGD

from ensemble.inference.forward import out_of_memory
from ensemble.models.layers import set_mode
from ensemble.models.network import Network
from ensemble.recipe.schema import Recipe

STEPS, STEPS_ON_GPU = 2, 20
PIXELS, FEWEST, MOST = 32 * 64 * 64, 4, 128
"""A processor is probed with about so many pixels, in not fewer and not more images."""
PATIENCE = 5.0
"""Seconds after which no further step is measured."""
OWN = 0.7
"""The share of its threads' time that a probe gets of the processors where nothing else wants them."""


class Alone:
    """Tells whether the threads of this process had the processors to themselves since it was made."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.started, self.used = time.perf_counter(), time.process_time()

    @property
    def was(self) -> bool:
        """Always so for a GPU, whose work takes no processor's time."""
        if self.device.type != "cpu":
            return True
        passed = (time.perf_counter() - self.started) * torch.get_num_threads()
        return time.process_time() - self.used >= OWN * passed


def pixels(recipe: Recipe, device: torch.device) -> Tensor:
    """A random batch: as large as the recipe's on a GPU, where a small one measures the launch, else smaller."""
    size = recipe.image_size or 224
    count = recipe.batch_size
    if device.type == "cpu":
        count = min(count, max(FEWEST, min(MOST, PIXELS // size**2)))
    return torch.rand(count, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)


def rate(network: Network, x: Tensor, *, training: bool) -> float:
    """Images a second, the best of some steps, with fewer images where memory runs out."""
    while True:
        try:
            return _rate_of(network, x, training)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or len(x) < 4:
                raise
        x = x[: len(x) // 2]


def _rate_of(network: Network, x: Tensor, training: bool) -> float:
    set_mode(network, training)
    step = Steps(network, training)
    if x.device.type != "cpu":
        _timed(step, x, 1)  # it loads kernels and captures graphs: it says nothing, however long it takes
        steps = max(1, min(STEPS_ON_GPU, int(PATIENCE / _timed(step, x, 1))))
        # nobody waits between steps in training either, unless a format has to
        return steps * len(x) / _timed(step, x, steps)
    times: list[float] = []
    while len(times) <= STEPS and sum(times) <= PATIENCE:
        times.append(_timed(step, x, 1))
    return len(x) / min(times[1:] or times)


def _timed(step: Callable[[Tensor], None], x: Tensor, steps: int) -> float:
    """Seconds of so many steps, one after another."""
    wait(x.device)
    started = time.perf_counter()
    for _ in range(steps):
        step(x)
    wait(x.device)
    return time.perf_counter() - started


class Steps:
    """Steps of training, with what float16 needs beside, or of predicting. Weights stay as they are."""

    def __init__(self, network: Network, training: bool) -> None:
        self.network, self.training = network, training
        self.scaler: torch.amp.GradScaler | None = None
        if training and network.compute_dtype == torch.float16:
            learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
            self.scaler, self.optimizer = torch.amp.GradScaler(learning[0].device.type), SGD(learning, lr=0.0)

    def __call__(self, x: Tensor) -> None:
        if not self.training:
            with torch.inference_mode():
                self.network(x)
            return
        loss = self.network(x).square().mean()
        if self.scaler is None:
            loss.backward()
        else:
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()


def wait(device: torch.device) -> None:
    """Until a GPU has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
