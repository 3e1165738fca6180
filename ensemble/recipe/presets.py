"""What the presets stand for: the keys of fine-tuning that a recipe leaves out, by name.

The README says why. A network from scratch has nothing to keep, and none of them concerns it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEFAULT = "good"

SCRATCH: Mapping[str, Any] = {
    "head": "dense",
    "dropout": 0.5,
    "freeze_norms": False,
    "rescale_filters": False,
    "head_fit": "steps",
    "early_rate": 0.01,
    "clip": 0.0,
}
"""From scratch; and what fine-tuning did in pipeline 1, where a recipe writes it out."""

_GOOD: Mapping[str, Any] = {
    "head": "linear",
    "dropout": 0.5,
    "freeze_norms": "statistics",
    "rescale_filters": True,
    "head_fit": "regression",
    "early_rate": 1.0,
    "clip": 1.0,
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": {**_GOOD, "epochs": 1},
    "good": _GOOD,
    "best": {**_GOOD, "epochs": 10},
}
