"""Pools of members as `combine` holds them in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ensemble.combine.aligned import Split
from ensemble.combine.fit import Plan
from ensemble.combine.rules import rules
from ensemble.metrics import Metric, metrics
from helpers.synthetic import softmax

ACCURACY, BRIER, LOG_LOSS = (metrics.get(name) for name in ("accuracy", "brier", "log_loss"))


def split(probs: np.ndarray, targets: np.ndarray, groups: np.ndarray | None = None) -> Split:
    """probs (m, n, k) and targets (n,) with ids and classes."""
    ids = np.array([f"item{i:04d}" for i in range(probs.shape[1])])
    return Split(ids, np.array(list("abcdefgh"[: probs.shape[2]])), probs, targets, groups)


def plan(m: int, rule: str = "auto", metric: Metric = ACCURACY, **options: Any) -> Plan:
    """A plan for m members, each of its own architecture unless options say otherwise."""
    ids = tuple(f"run{i}" for i in range(m))
    entry = rules.get(rule)
    return Plan(ids, ids, entry, calibrate=entry.calibrates, metric=metric, **options)


def pool(
    noises: Sequence[float], n: int = 300, k: int = 3, seed: int = 0, sharpness: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Members that see the same evidence, each through noise of its own."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, k, n)
    evidence = 2 * np.eye(k)[targets] + random.normal(size=(n, k))
    logits = np.stack([evidence + noise * random.normal(size=(n, k)) for noise in noises]) * sharpness
    return softmax(logits).astype(np.float32), targets
