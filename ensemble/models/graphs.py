"""Training steps of a network as CUDA graphs: a single launch instead of hundreds of kernel launches per step."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)


class Graphs:
    """The forward and the backward pass of `network`, a module in training mode, each as one CUDA graph.

    The graphs are captured again when the shape of batches, the trainable parameters, the mode of a module or the
    memory address of weights changes; the earlier graphs are released. A network that cannot be captured (because
    it reads tensor values in between) or whose graphs do not fit into memory runs without graphs, and a warning
    says so. Capturing leaves buffers and random states unchanged.

    Gradients are in the graph's own memory, which the next step overwrites: they must be used before that, and
    cannot be accumulated over steps.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._modules, self._parameters = list(network.modules()), list(network.parameters())
        self._key: tuple[Any, ...] = ()
        self._graphed: Callable[[Tensor], Tensor] | None = None
        self.failed = False

    def __call__(self, x: Tensor, flags: tuple[bool, ...]) -> Tensor:
        """The network's output for a batch on a GPU. flags: further values that its code depends on."""
        key = () if self.failed else self._state(x, flags)
        if key != self._key:
            self._key, self._graphed = key, None
            self._graphed = None if self.failed else self._capture(x)
        # the next step overwrites the output of a graph
        output: Tensor = self._network(x) if self._graphed is None else self._graphed(x).clone()
        return output

    def _state(self, x: Tensor, flags: tuple[bool, ...]) -> tuple[Any, ...]:
        parameters = tuple((parameter.data_ptr(), parameter.requires_grad) for parameter in self._parameters)
        modes = tuple(module.training for module in self._modules)
        return x.shape, x.stride(), x.dtype, _autocast(x.device.type), flags, parameters, modes

    def _capture(self, x: Tensor) -> Callable[[Tensor], Tensor] | None:
        """Graphs captured on a copy of the batch, which later batches overwrite; None where the capture fails."""
        dtype = _autocast(x.device.type)
        # gradients arrive from the stream of the capture, which is intended
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        torch.cuda.empty_cache()  # graphs have a memory pool of their own and cannot use cached blocks
        with (
            torch.cuda.device(x.device),
            _restored(self._network, x.device),
            torch.autocast(x.device.type, dtype, enabled=dtype is not None, cache_enabled=False),
        ):
            try:
                _check_capturable(self._network, x)
                # torch replaces the `forward` of the module that it gets
                graphed: Any = torch.cuda.make_graphed_callables(
                    nn.Sequential(self._network), (x.detach().clone(),), allow_unused_input=True
                )
            except (RuntimeError, AssertionError) as error:
                self.failed = True
                _forget_capture(x.device)
                log.warning("training goes on without CUDA graphs: %s", str(error).partition("\n")[0])
                return None
        captured: Callable[[Tensor], Tensor] = graphed
        return captured


def _autocast(device: str) -> torch.dtype | None:
    """The present data type of autocast, or None."""
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def _check_capturable(network: nn.Module, x: Tensor) -> None:
    """Run two steps; the second must not synchronise with the GPU, as a capture that fails for it breaks torch.

    Raises RuntimeError where it does.
    """
    mode = torch.cuda.get_sync_debug_mode()
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        for strict in (False, True):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns that it does not detect every synchronisation
                torch.cuda.set_sync_debug_mode("error" if strict else mode)
            loss = network(x).sum()
            if loss.requires_grad:
                torch.autograd.grad(loss, trainable, allow_unused=True)
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def _forget_capture(device: torch.device) -> None:
    """Reset the random generator, which would otherwise remain in capture mode after a failed capture."""
    index = torch.cuda.current_device() if device.index is None else device.index
    generator = torch.cuda.default_generators[index]
    generator.graphsafe_set_state(generator.clone_state())


@contextmanager
def _restored(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Restore buffers, random states and the current stream at the end of the block."""
    state, stream = torch.cuda.get_rng_state(device), torch.cuda.current_stream(device)
    buffers = [buffer.clone() for buffer in network.buffers()]
    try:
        yield
    finally:
        torch.cuda.synchronize(device)
        torch.cuda.set_stream(stream)  # a failed capture leaves its own stream set
        for buffer, saved in zip(network.buffers(), buffers, strict=True):
            buffer.copy_(saved)
        torch.cuda.set_rng_state(state, device)
