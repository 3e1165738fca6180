"""Labelled rows and epochs as reports hold them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ensemble.report.classes import Labelled
from ensemble.runs.history import Epoch


def rows_of(targets: Any, probs: Any) -> Labelled:
    probs = np.asarray(probs, np.float32)
    k = probs.shape[1]
    return Labelled(
        np.array([f"i{n}" for n in range(len(probs))]),
        probs / probs.sum(axis=1, keepdims=True),
        np.asarray(targets, np.int64),
        tuple(f"c{c}" for c in range(k)),
        None,
    )


def point(epoch: int, train: float, valid: float | None, valid_loss: float | None = 1.0, stage: int = 0) -> Epoch:
    return Epoch(stage, epoch - 1, 1.0 - train / 2, valid_loss, train, valid, 0.1, 2.0)
