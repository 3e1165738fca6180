"""What a run says of some images, member by member."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ensemble.combine.arrays import Wide
from ensemble.combine.fitting import Probs
from ensemble.metrics.uncertainty import disagreement
from ensemble.predictions import Floats


@dataclass(frozen=True)
class Opinion:
    """What a run says of n images. probs: float32 (n, k).  members: float32 (m, n, k), uniform where unheard."""

    probs: Probs
    members: Probs

    def row(self, i: int) -> Opinion:
        """What it says of image i alone, as n = 1."""
        return Opinion(self.probs[i : i + 1], self.members[:, i : i + 1])


def disagreeing(members: Floats, weights: Floats) -> Wide | None:
    """float64 (n,): the disagreement of members (m, n, k); None where fewer than two weigh anything."""
    return disagreement(members, weights) if np.count_nonzero(weights) > 1 else None
