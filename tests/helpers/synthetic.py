"""Predictions of members that nobody trained, with errors of a known size and correlation."""

from __future__ import annotations

from typing import Any

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Rows of the last axis that sum to one."""
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def members(
    m: int, n: int, k: int = 3, seed: int = 0, skill: float = 1.5, shared: float = 1.0, own: Any = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """float32 (m, n, k) of members whose errors agree, and targets (n,). own: a number, or one a member."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, k, n)
    noise = np.broadcast_to(own, m)[:, None, None] * random.normal(size=(m, n, k))
    logits = skill * np.eye(k)[targets] + shared * random.normal(size=(n, k)) + noise
    return softmax(logits).astype(np.float32), targets


def architectures(
    agreement: list[tuple[int, float]], n: int = 3000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Members of the architectures 0, 1, ...: errors are a part shared by all and a part of the architecture.

    agreement: for each member its architecture, and how much of its error is shared with the other ones.
    """
    random = np.random.default_rng(seed)
    targets = random.integers(0, 3, n)
    everyone, of_arch = random.normal(size=(n, 3)), random.normal(size=(10, n, 3))
    errors = [
        np.sqrt(share) * everyone + np.sqrt(0.4 - share) * of_arch[arch] + np.sqrt(0.6) * random.normal(size=(n, 3))
        for arch, share in agreement
    ]
    probs = softmax(2.5 * np.eye(3)[targets] + 2 * np.array(errors)).astype(np.float32)
    return probs, targets, [f"net{arch}" for arch, _ in agreement]


def stack(m: int, n: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 (m, n, k) and targets (n,) that have nothing to do with each other."""
    random = np.random.default_rng(seed)
    return random.dirichlet(np.ones(k), (m, n)).astype(np.float32), random.integers(0, k, n)
