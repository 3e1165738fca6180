"""Contributions of members to a plain mean."""

from __future__ import annotations

import numpy as np

from ensemble.combine.contributions import contributions
from ensemble.combine.member_elimination import eliminate_members


class Mean:
    """The plain mean without some members; remembers what it was asked."""

    def __init__(self, probs):
        self.probs, self.requested = probs, []

    def __call__(self, gone):
        self.requested.append(gone)
        return np.mean([row for j, row in enumerate(self.probs) if j not in gone], axis=0)


def brought(metric, probs, targets, groups=None):
    mean = Mean(probs)
    return contributions(metric, mean(()), mean, probs, targets, groups)


def shortened(metric, probs, targets, costs=None, groups=None):
    mean = Mean(probs)
    return eliminate_members(metric, mean(()), mean, targets, groups, costs or [None] * len(probs))
