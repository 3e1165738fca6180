"""Weight files, and the matching of their tensors to those of a network."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as tensors_of
from safetensors.torch import load_file
from safetensors.torch import save as bytes_of
from torch import Tensor, nn

from ensemble.core.errors import EnsError, MissingWeights, one_line
from ensemble.core.files import write_atomically
from ensemble.models.torchvision_backbones import BackboneSpec, State
from ensemble.models.weight_sources import WeightsFile

OUTER_NAMES = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
EXPANDING_NAMES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_se_reduce": "se.conv_reduce",
    "_se_expand": "se.conv_expand",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
PLAIN_NAMES = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_se_reduce": "se.conv_reduce",
    "_se_expand": "se.conv_expand",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
"""A block whose channels are not expanded has no first convolution."""


def translated(model: nn.Module, state: State) -> State:
    """`state` under timm's names for `model`; other names, and those of blocks that do not fit, are kept."""
    if "_conv_stem.weight" not in state:
        return state
    any_model: Any = model
    stages = getattr(any_model, "blocks", ())
    # the file numbers blocks consecutively, timm within each stage
    positions = list(chain.from_iterable([(s, b) for b in range(len(stage))] for s, stage in enumerate(stages)))
    expanding = {int(name.split(".")[1]) for name in state if re.match(r"_blocks\.\d+\._expand_conv\.", name)}
    return {_timm_name(name, positions, expanding): value for name, value in state.items()}


def _timm_name(name: str, positions: list[tuple[int, int]], expanding: set[int]) -> str:
    match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if match is None:
        layer, _, tensor = name.partition(".")
        return f"{OUTER_NAMES.get(layer, layer)}.{tensor}"
    block, layer, tensor = int(match[1]), match[2], match[3]
    names = EXPANDING_NAMES if block in expanding else PLAIN_NAMES
    if block >= len(positions) or layer not in names:
        return name
    return "blocks.{}.{}.{}.{}".format(*positions[block], names[layer], tensor)


def load_state(file: WeightsFile) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file on the CPU, half precision as float32; nothing is unpickled.

    Raises MissingWeights when the file is truncated, of another format, or holds anything but named tensors.
    """
    try:
        state = _read(file.path)
    except Exception as error:  # any error of a reader means that the file is no file of weights
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
    for key in ("state_dict", "model"):  # wrappers that training scripts add
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
    """Load a file of `save_weights`, strictly. Raises EnsError when bytes, names or shapes differ."""
    if not path.is_file():
        raise EnsError(f"no file {one_line(path)}; copy it back, or delete the run's folder and train it again")
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        raise EnsError(
            f"{one_line(path)} is damaged: sha256 {digest[:8]}… found, {sha256[:8]}… recorded;"
            " delete the run's folder and train it again"
        )
    state = tensors_of(data)
    refuse(misfits(network.state_dict(), state), f"{one_line(path)} does not fit the network", EnsError)
    network.load_state_dict(state, strict=True)


_COUNTER = "num_batches_tracked"
_BODY = "0."


def from_run(state: State) -> bool:
    """Whether `state` is the state dict of a whole Network, (body, head), as a run saves it."""
    return {name.partition(".")[0] for name in state} == {"0", "1"}


def fit_pretrained(skeleton: BackboneSpec, state: State, arch: str) -> None:
    """Load library weights into the whole network. The head may be missing, of another shape or unrelated.

    Raises MissingWeights that names the first five of the body's tensors that are missing, unexpected or of
    another shape.
    """
    whole, own_state = skeleton.whole, skeleton.whole.state_dict()
    if misfits(own_state, state, skeleton.head_names):
        state = skeleton.rename(whole, state)
    refuse(misfits(own_state, state, skeleton.head_names), f"the weights do not fit {arch}")
    fitting = {
        name: value for name, value in state.items() if name in own_state and value.shape == own_state[name].shape
    }
    whole.load_state_dict(fitting, strict=False)


def fit_body(body: nn.Module, state: State, arch: str) -> None:
    """Load the body of a run's state dict, for which `from_run` holds. Raises MissingWeights."""
    cut = {name.removeprefix(_BODY): value for name, value in state.items() if name.startswith(_BODY)}
    refuse(misfits(body.state_dict(), cut), f"the run's weights do not fit {arch}")
    body.load_state_dict(cut, strict=False)


def misfits(own_state: State, state: State, head_names: tuple[str, ...] = ()) -> list[str]:
    """The problems of `state` for a network whose state dict is `own_state`: one text for each tensor.

    Names whose first component is in `head_names` are ignored; the counters of batch norms may be missing.
    """

    def is_checked(name: str) -> bool:
        return name.split(".")[0] not in head_names

    problems = []
    for name in filter(is_checked, own_state):
        expected = _shape(own_state[name])
        if name in state and state[name].shape != own_state[name].shape:
            problems.append(f"{name}: {_shape(state[name])} found, {expected} expected")
        elif name not in state and not name.endswith(_COUNTER):
            problems.append(f"{name}: missing, {expected} expected")
    problems.extend(
        f"{name}: {_shape(state[name])} found, none expected"
        for name in filter(is_checked, state)
        if name not in own_state
    )
    return problems


def refuse(problems: list[str], message: str, error: type[Exception] = MissingWeights) -> None:
    """Raise `error` with the first five of `problems` if there are any."""
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise error(f"{message}: {'; '.join(problems[:5])}{more}")


def widened(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with half-precision tensors as float32."""
    half = (torch.float16, torch.bfloat16)
    return {name: value.float() if value.dtype in half else value for name, value in state.items()}


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"
