"""Random states and seeds."""

from __future__ import annotations

import random

import numpy as np
import torch

from ensemble.training.engine.checkpoint import random_states, restore_random_states, seed_everything


def test_random_states_are_restored() -> None:
    seed_everything(3, "a")
    loader = random.Random(1)
    states = random_states(loader)

    def draw() -> list[float]:
        return [random.random(), np.random.rand(), torch.rand(1).item(), loader.random()]  # noqa: NPY002

    first = draw()
    assert draw() != first
    restore_random_states(states, loader)
    assert draw() == first


def test_seeds_for_different_purposes_differ() -> None:
    draws = set()
    for salt in [("stage", 0), ("stage", 1), ("weights",)]:
        seed_everything(0, *salt)
        draws.add(torch.rand(1).item())
    assert len(draws) == 3
