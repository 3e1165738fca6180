"""Weights on disk: finding those an architecture starts from, reading them, and a run's own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as tensors_of
from safetensors.torch import load_file
from safetensors.torch import save as bytes_of
from torch import Tensor, nn

from ensemble.architectures import Architecture, lookup
from ensemble.errors import EnsError, MissingWeights, one_line
from ensemble.files import Signature, sha256_file, signature, write_atomically
from ensemble.models.download import from_hub, from_url, hub_digest, hub_url, in_hub_cache
from ensemble.models.fitting import misfits, refuse, widened

FOLDER = "ENS_WEIGHTS"


@dataclass(frozen=True)
class WeightsFile:
    """Initial weights on disk. sha256: of the bytes.  source: how they were found, for run.json."""

    path: Path
    sha256: str
    source: str


def locate_weights(arch: str, weights: str) -> WeightsFile | None:
    """The file of initial weights of `arch`; None for `none`. `weights` is imagenet, none or a path.

    imagenet: `$ENS_WEIGHTS/<arch>.safetensors`, the torch hub's and the Hugging Face caches, then a download.
    Raises MissingWeights in one line that says which file, where it is to be had and where to put it.
    """
    if weights == "none":
        return None
    if weights != "imagenet":
        return _named(Path(weights).expanduser())
    architecture = lookup(arch)
    if architecture.weights_url is None and architecture.hub_repo is None:
        raise MissingWeights(f"there are no ImageNet weights of {arch}; add --weights none, or a path")
    return _in_folder(arch, architecture) or _in_caches(architecture) or _downloaded(arch, architecture)


def _named(path: Path) -> WeightsFile:
    if not path.is_file():
        raise MissingWeights(
            f"no file {one_line(path)} with weights; imagenet, none or the path of such a file expected"
        )
    return WeightsFile(path, _digest(path), "path")


def _in_folder(arch: str, architecture: Architecture) -> WeightsFile | None:
    """`<arch>.safetensors` in $ENS_WEIGHTS, or the library's own file under its own name."""
    if not os.environ.get(FOLDER):
        return None
    folder = Path(os.environ[FOLDER]).expanduser()
    path = folder / f"{arch}.safetensors"
    if path.is_file():
        return WeightsFile(path, _digest(path), f"${FOLDER}/{path.name}")
    original = folder / (architecture.weights_file or path.name)
    if original.is_file():
        return WeightsFile(original, _checked(original, architecture.weights_digits), f"${FOLDER}/{original.name}")
    return None


def _in_caches(architecture: Architecture) -> WeightsFile | None:
    if architecture.weights_file:
        path = _hub_folder() / architecture.weights_file
        if path.is_file():
            return WeightsFile(path, _checked(path, architecture.weights_digits), architecture.weights_url or "")
    cached = in_hub_cache(architecture)
    return None if cached is None else _from_hub(cached, architecture)


def _from_hub(path: Path, architecture: Architecture) -> WeightsFile:
    return WeightsFile(path, _checked(path, hub_digest(path)), f"{architecture.hub_repo}/{path.name}")


def _downloaded(arch: str, architecture: Architecture) -> WeightsFile:
    try:
        if architecture.hub_repo:
            return _from_hub(from_hub(architecture), architecture)
        assert architecture.weights_url and architecture.weights_file
        path = from_url(
            architecture.weights_url, _hub_folder() / architecture.weights_file, architecture.weights_digits
        )
        return WeightsFile(path, _digest(path), architecture.weights_url)
    except OSError as error:
        url = hub_url(architecture) if architecture.hub_repo else architecture.weights_url
        folder = os.environ.get(FOLDER)
        tried = f"not in ${FOLDER} ({folder})" if folder else f"${FOLDER} is not set"
        raise MissingWeights(
            f"no ImageNet weights of {arch}: {tried}, in no cache, and the download failed"
            f" ({one_line(reason(error))}); get {url} and put it at"
            f" ${FOLDER}/{_wanted_name(arch, architecture)}, or add --weights none"
        ) from error


def _wanted_name(arch: str, architecture: Architecture) -> str:
    """The name in $ENS_WEIGHTS under which the very file that is to be had is found."""
    return f"{arch}.safetensors" if architecture.hub_repo else architecture.weights_file or ""


def reason(error: OSError) -> str:
    """The last line of what went wrong, without the layers around it."""
    inner = getattr(error, "reason", None) or error
    return str(getattr(inner, "strerror", None) or inner).split("\n")[0]


def _hub_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _digest(path: Path) -> str:
    """The sha256 of a file, computed once for as long as it looks the same: a sweep asks for every cell."""
    return _digest_of(path, signature(path.stat()))


@lru_cache(maxsize=64)
def _digest_of(path: Path, unchanged: Signature) -> str:
    return sha256_file(path)


def _checked(path: Path, digits: str | None) -> str:
    """The sha256 of `path`, which must begin with `digits`. Raises MissingWeights."""
    found = _digest(path)
    if digits and not found.startswith(digits):
        raise MissingWeights(
            f"{one_line(path)} is damaged: its sha256 begins with {found[: len(digits)]}, {digits} expected;"
            " delete it and try again"
        )
    return found


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
