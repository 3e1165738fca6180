"""Weights on disk: reading those that an architecture starts from, and a run's own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as tensors_of
from safetensors.torch import load_file
from safetensors.torch import save as bytes_of
from torch import Tensor, nn

from ensemble.errors import EnsError, MissingWeights, one_line
from ensemble.files import write_atomically
from ensemble.models.fitting import misfits, refuse, widened
from ensemble.models.weight_sources import WeightsFile


def load_state(file: WeightsFile) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file on the CPU, half precision as float32; nothing is unpickled.

    Raises MissingWeights when the file is truncated, of another kind, or holds anything but named tensors.
    """
    try:
        state = _read(file.path)
    except Exception as error:  # whatever a reader raises means one thing: these are not weights
        raise MissingWeights(
            f"{one_line(file.path)} is not a whole file of weights; .safetensors or .pth expected"
        ) from error
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise MissingWeights(f"{one_line(file.path)} holds no state dict; named tensors expected")
    return widened(state)


def _read(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".safetensors":
        tensors: dict[str, Tensor] = load_file(path)
        return tensors
    state = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):  # how training scripts wrap it
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping):
        raise ValueError(f"a {type(state).__name__} found")
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def save_weights(path: Path, network: nn.Module) -> Path:
    """Write the network's state dict as safetensors; the bytes do not depend on the memory layout."""
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    return write_atomically(path, bytes_of(state))


def load_weights(network: nn.Module, path: Path, sha256: str) -> None:
    """Load what `save_weights` wrote, strictly. Raises EnsError when bytes, names or shapes differ."""
    if not path.is_file():
        raise EnsError(f"no file {one_line(path)}; copy it back, or delete the run's folder and train it again")
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise EnsError(
            f"{one_line(path)} is damaged: sha256 {found[:8]}… found, {sha256[:8]}… recorded;"
            " delete the run's folder and train it again"
        )
    state = tensors_of(data)
    refuse(misfits(network.state_dict(), state), f"{one_line(path)} does not fit the network", EnsError)
    network.load_state_dict(state, strict=True)
