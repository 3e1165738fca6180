"""Every random state that training draws from: set, saved and put back."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

States = Mapping[str, Any]


def seed_everything(seed: int, *salt: object) -> None:
    """Seed `random`, numpy and torch (every device) from `seed` and what it is for."""
    text = "/".join(str(part) for part in (seed, *salt))
    value = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
    random.seed(value)
    np.random.seed(value)  # noqa: NPY002 — fastai draws from the global state
    torch.manual_seed(value)


def random_states(loader_rng: random.Random) -> States:
    """The states of `random`, numpy, torch, its devices and a loader's own generator, as plain lists."""
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
    """The opposite of `random_states`."""
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
