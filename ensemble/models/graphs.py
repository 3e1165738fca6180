"""Training steps of a network as CUDA graphs: a GPU is told once what to do, not hundreds of times a step."""

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
    """The forward and the backward pass of `network`, a module in training mode, each as one graph.

    They are captured anew when a batch has another shape, other parameters learn, other modules train or weights
    lie elsewhere in memory; the graphs before are forgotten. A network that cannot be captured (it looks at numbers
    on the way) or whose graphs find no memory is computed as it is, and a warning says so. Capturing leaves no
    trace in buffers and random states.

    Gradients lie in the graph's own memory, where the next step writes its own: they must be used before that, and
    cannot be added up over steps.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._modules, self._parameters = list(network.modules()), list(network.parameters())
        self._key: tuple[Any, ...] = ()
        self._made: Callable[[Tensor], Tensor] | None = None
        self.failed = False

    def __call__(self, x: Tensor, flags: tuple[bool, ...]) -> Tensor:
        """What the network makes of a batch on a GPU. flags: what else its code depends on."""
        key = () if self.failed else self._state(x, flags)
        if key != self._key:
            self._key, self._made = key, None
            self._made = None if self.failed else self._captured(x)
        # the next step writes over what a graph hands out
        found: Tensor = self._network(x) if self._made is None else self._made(x).clone()
        return found

    def _state(self, x: Tensor, flags: tuple[bool, ...]) -> tuple[Any, ...]:
        learns = tuple((parameter.data_ptr(), parameter.requires_grad) for parameter in self._parameters)
        trains = tuple(module.training for module in self._modules)
        return x.shape, x.stride(), x.dtype, _autocast(x.device.type), flags, learns, trains

    def _captured(self, x: Tensor) -> Callable[[Tensor], Tensor] | None:
        """The graphs, captured on a copy of the batch, whose place every later batch takes; None where it fails."""
        dtype = _autocast(x.device.type)
        # gradients are handed over from the stream of the capture, which is as it should be
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        torch.cuda.empty_cache()  # graphs have memory of their own and none of what is kept for later
        with (
            torch.cuda.device(x.device),
            _without_trace(self._network, x.device),
            torch.autocast(x.device.type, dtype, enabled=dtype is not None, cache_enabled=False),
        ):
            try:
                _try_out(self._network, x)
                # torch replaces the `forward` of what it is given
                made: Any = torch.cuda.make_graphed_callables(
                    nn.Sequential(self._network), (x.detach().clone(),), allow_unused_input=True
                )
            except (RuntimeError, AssertionError) as error:
                self.failed = True
                _forget_capture(x.device)
                log.warning("training goes on without CUDA graphs: %s", str(error).partition("\n")[0])
                return None
        captured: Callable[[Tensor], Tensor] = made
        return captured


def _autocast(device: str) -> torch.dtype | None:
    """What autocast computes in just now."""
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def _try_out(network: nn.Module, x: Tensor) -> None:
    """Two steps, the second of which may not wait for the GPU: a capture that a wait ends leaves torch confused.

    Raises RuntimeError where one does.
    """
    mode = torch.cuda.get_sync_debug_mode()
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        for strict in (False, True):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it does not find every wait
                torch.cuda.set_sync_debug_mode("error" if strict else mode)
            loss = network(x).sum()
            if loss.requires_grad:
                torch.autograd.grad(loss, learning, allow_unused=True)
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def _forget_capture(device: torch.device) -> None:
    """A generator that was in a capture which failed would take itself to be in it for ever."""
    index = torch.cuda.current_device() if device.index is None else device.index
    generator = torch.cuda.default_generators[index]
    generator.graphsafe_set_state(generator.clone_state())


@contextmanager
def _without_trace(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Afterwards buffers, random states and the current stream are as before."""
    state, stream = torch.cuda.get_rng_state(device), torch.cuda.current_stream(device)
    buffers = [buffer.clone() for buffer in network.buffers()]
    try:
        yield
    finally:
        torch.cuda.synchronize(device)
        torch.cuda.set_stream(stream)  # a capture that failed leaves its own behind
        for buffer, before in zip(network.buffers(), buffers, strict=True):
            buffer.copy_(before)
        torch.cuda.set_rng_state(state, device)
