"""Checkpoints and random states, as needed for a bit-identical resume."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from fastai.optimizer import Optimizer
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ensemble.core.errors import EnsError
from ensemble.core.files import write_atomically
from ensemble.runs.history import Epoch, epoch_from

States = Mapping[str, Any]


def seed_everything(seed: int, *salt: object) -> None:
    """Seed `random`, numpy and torch (all devices) from a hash of `seed` and `salt`, which names the purpose."""
    text = "/".join(str(part) for part in (seed, *salt))
    value = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
    random.seed(value)
    np.random.seed(value)  # noqa: NPY002 — fastai draws from the global state
    torch.manual_seed(value)


def random_states(loader_rng: random.Random) -> States:
    """States of `random`, numpy, torch, its devices and the loader's own generator, as plain lists."""
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "random": _plain(random.getstate()),
        "numpy": [name, np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state().tolist(),
        "cuda": [state.tolist() for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [],
        "mps": torch.mps.get_rng_state().tolist() if torch.backends.mps.is_available() else [],
        "loader": _plain(loader_rng.getstate()),
    }


def restore_random_states(states: States, loader_rng: random.Random) -> None:
    """Restore the states that `random_states` returned."""
    random.setstate(_python_state(states["random"]))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(torch.tensor(states["torch"], dtype=torch.uint8))
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([torch.tensor(state, dtype=torch.uint8) for state in states["cuda"]])
    if states["mps"] and torch.backends.mps.is_available():
        torch.mps.set_rng_state(torch.tensor(states["mps"], dtype=torch.uint8))
    loader_rng.setstate(_python_state(states["loader"]))


def _plain(state: tuple[Any, ...]) -> list[Any]:
    version, words, gauss = state
    return [version, list(words), gauss]


def _python_state(state: list[Any]) -> tuple[Any, ...]:
    version, words, gauss = state
    return version, tuple(words), gauss


Tensors = dict[str, Tensor]

_PARTS = ("model", "optimizer", "best", "average", "sampler")


@dataclass(frozen=True)
class Checkpoint:
    """Training state after `epoch` of `stage`.

    model: every weight and buffer by name.  optimizer: its tensors by `<index of the parameter>.<name>`.
    scalars: the optimizer's numbers, under the same names.  states: the random states.  rows: the history so far.
    best: the weights of the best epoch if `keep: best`.  average: state of the weight average.
    sampler: state of the sampler, such as the losses of the items.  scaler: state of the gradient scaler.
    """

    stage: int
    epoch: int
    model: Tensors
    optimizer: Tensors
    scalars: Mapping[str, Any]
    states: Mapping[str, Any]
    rows: tuple[Epoch, ...]
    best: Tensors = field(default_factory=dict)
    average: Tensors = field(default_factory=dict)
    sampler: Tensors = field(default_factory=dict)
    scaler: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stage_rows(self) -> list[Epoch]:
        """History rows of the current stage."""
        return [row for row in self.rows if row.stage == self.stage]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write `<folder>/checkpoint/state.safetensors`. Raises EnsError if the file cannot be written."""
    parts = {part: getattr(checkpoint, part) for part in _PARTS}
    tensors = {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}
    facts = {
        "stage": checkpoint.stage,
        "epoch": checkpoint.epoch,
        "plain": checkpoint.scalars,
        "states": checkpoint.states,
        "rows": [asdict(row) for row in checkpoint.rows],
        "scaler": checkpoint.scaler,
    }
    content = safetensors.torch.save(packed(tensors), metadata={"facts": json.dumps(facts)})
    write_atomically(folder / "checkpoint" / "state.safetensors", content)


CHECKPOINT_SHARE = 0.1
"""Approximate maximum share of the time spent on checkpoints, so that not every short epoch has a large write."""


class CheckpointSaver:
    """Saves checkpoints in a folder, unless that takes more than CHECKPOINT_SHARE of the time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._saved_at, self._seconds = time.monotonic(), 0.0

    def save(self, checkpoint: Callable[[], Checkpoint], *, last: bool) -> None:
        """Save a checkpoint if it is due; always the last one of a stage. Raises as `save_checkpoint`."""
        started = time.monotonic()
        if not last and started - self._saved_at < self._seconds / CHECKPOINT_SHARE:
            return
        save_checkpoint(self.folder, checkpoint())
        self._saved_at = time.monotonic()
        self._seconds = self._saved_at - started


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint in `folder`, or None. Raises EnsError for a file that is not a checkpoint."""
    path = folder / "checkpoint" / "state.safetensors"
    if not path.is_file():
        return None
    parts: dict[str, Tensors] = {part: {} for part in _PARTS}
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            for key in file.keys():  # noqa: SIM118 — not a mapping
                part, name = key.split("/", 1)
                parts[part][name] = file.get_tensor(key)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise EnsError(
            f"{path} is not a checkpoint ({error}); remove it to train this run from the start"
        ) from error
    return Checkpoint(
        stage=facts["stage"],
        epoch=facts["epoch"],
        scalars=facts["plain"],
        states=facts["states"],
        rows=tuple(epoch_from(row) for row in facts["rows"]),
        scaler=facts.get("scaler", {}),
        **parts,
    )


def remove_checkpoint(folder: Path) -> None:
    """Delete the checkpoint of a complete run."""
    if (folder / "checkpoint").is_dir():
        shutil.rmtree(folder / "checkpoint")


def packed(tensors: Mapping[str, Tensor]) -> Tensors:
    """Contiguous copies on the CPU that share no memory, as safetensors requires; same values."""
    return {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()
    }


def copied_state(network: nn.Module) -> Tensors:
    """Copies of every weight and buffer by name."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def optimizer_state(optimizer: Optimizer) -> tuple[Tensors, dict[str, Any]]:
    """State of a fastai optimizer as (tensors, scalars), named `<index of the parameter>.<name>`."""
    tensors: Tensors = {}
    scalars: dict[str, Any] = {}
    for index, (parameter, *_) in enumerate(optimizer.all_params()):
        for name, value in optimizer.state[parameter].items():
            (tensors if isinstance(value, Tensor) else scalars)[f"{index}.{name}"] = value
    return tensors, scalars


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
    """Restore the result of `optimizer_state`; tensors take the device and layout of their parameter."""
    parameters = [parameter for parameter, *_ in optimizer.all_params()]
    for key, value in {**scalars, **tensors}.items():
        index, name = key.split(".", 1)
        parameter = parameters[int(index)]
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        elif isinstance(value, Tensor):
            value = value.to(parameter.device)
        optimizer.state[parameter][name] = value
