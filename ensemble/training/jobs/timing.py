"""Training or prediction speed of a network in images per second, from a few steps on a random batch."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import SGD

from ensemble.inference.forward import out_of_memory
from ensemble.models.layers import set_mode
from ensemble.models.network import Network
from ensemble.recipe.schema import ResolvedRecipe

STEPS, STEPS_ON_GPU = 2, 20
PIXELS, MIN_IMAGES, MAX_IMAGES = 32 * 64 * 64, 4, 128
"""Approximate number of pixels, and minimum and maximum number of images, of a probe on a CPU."""
MAX_SECONDS = 5.0
"""Seconds after which no further step is measured."""
MIN_CPU_SHARE = 0.7
"""Minimum CPU time of a probe, as a share of the elapsed time of its threads, to count as undisturbed."""


class LoadCheck:
    """Checks whether other processes have competed with this one for the CPU since the check was created."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.started, self.cpu_started = time.perf_counter(), time.process_time()

    @property
    def undisturbed(self) -> bool:
        """Whether the threads got their CPU time; always True for a GPU, whose work takes no CPU time."""
        if self.device.type != "cpu":
            return True
        thread_seconds = (time.perf_counter() - self.started) * torch.get_num_threads()
        return time.process_time() - self.cpu_started >= MIN_CPU_SHARE * thread_seconds


def random_batch(recipe: ResolvedRecipe, device: torch.device) -> Tensor:
    """A random batch: the recipe's size on a GPU, where a small one measures launch overhead, else smaller."""
    size = recipe.image_size
    count = recipe.batch_size
    if device.type == "cpu":
        count = min(count, max(MIN_IMAGES, min(MAX_IMAGES, PIXELS // size**2)))
    return torch.rand(count, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)


def rate(network: Network, x: Tensor, *, training: bool) -> float:
    """Images per second, the best of some steps, with fewer images if memory runs out."""
    while True:
        try:
            return _measure_rate(network, x, training)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or len(x) < 4:
                raise
        x = x[: len(x) // 2]


def _measure_rate(network: Network, x: Tensor, training: bool) -> float:
    set_mode(network, training)
    step = Steps(network, training)
    if x.device.type != "cpu":
        _seconds(step, x, 1)  # warm-up: it loads kernels and captures graphs
        steps = max(1, min(STEPS_ON_GPU, int(MAX_SECONDS / _seconds(step, x, 1))))
        # without synchronisation between steps, as in training
        return steps * len(x) / _seconds(step, x, steps)
    times: list[float] = []
    while len(times) <= STEPS and sum(times) <= MAX_SECONDS:
        times.append(_seconds(step, x, 1))
    return len(x) / min(times[1:] or times)


def _seconds(step: Callable[[Tensor], None], x: Tensor, steps: int) -> float:
    """Seconds of `steps` consecutive steps."""
    wait(x.device)
    started = time.perf_counter()
    for _ in range(steps):
        step(x)
    wait(x.device)
    return time.perf_counter() - started


class Steps:
    """Training steps, with loss scaling for float16, or prediction steps. Weights do not change."""

    def __init__(self, network: Network, training: bool) -> None:
        self.network, self.training = network, training
        self.scaler: torch.amp.GradScaler | None = None
        if training and network.compute_dtype == torch.float16:
            trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
            self.scaler, self.optimizer = torch.amp.GradScaler(trainable[0].device.type), SGD(trainable, lr=0.0)

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
    """Wait until a GPU has completed its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
