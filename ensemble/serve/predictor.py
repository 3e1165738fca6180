"""What a service needs of a model, be it a run's networks in torch or an export in onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ensemble.combine.arrays import Wide
from ensemble.combine.calibration import Calibration
from ensemble.combine.opinion import Opinion
from ensemble.data.images import Colour
from ensemble.data.pixels import Pixels, Square

Squares = Mapping[Square, Pixels]


@dataclass(frozen=True)
class Voice:
    """A member that has a part in the answer. weight: None where the rule has none for each member."""

    id: str
    arch: str
    weight: float | None


@dataclass(frozen=True)
class Facts:
    """What is known of a model before it sees an image.

    members: the m whose opinions it gives.  weights: float64 (m,), with which they are compared.  score: how good
    it is, None where nobody knows.  calibration: None, and why, where there is none.  no_maps: why it draws no
    Grad-CAM, else nothing.  engine: what computes.
    """

    run: str
    kind: str
    classes: tuple[str, ...]
    members: tuple[Voice, ...]
    weights: Wide
    rule: str | None
    temperature: float | None
    medical: bool
    score: str | None
    calibration: Calibration | None
    no_calibration: str
    no_maps: str
    engine: str


@dataclass(frozen=True)
class Reading:
    """What is made of an image file. squares: each once.  background: behind transparent pixels, or None."""

    squares: tuple[Square, ...]
    background: Colour | None
    max_pixels: int


@dataclass(frozen=True)
class Map:
    """Where a member looks. picture: uint8 (h, w, 3), what it sees.  heat: float (h, w) from 0 to 1.

    why: the reason where there is no heat, else nothing.
    """

    member: str
    picture: Pixels
    heat: npt.NDArray[np.float32] | None
    why: str = ""


class Predictor(Protocol):
    """A model, loaded. Its methods are called from one thread."""

    @property
    def facts(self) -> Facts:
        """What is known of it."""

    @property
    def reading(self) -> Reading:
        """What it needs of an image."""

    def opinion(self, pixels: Squares) -> Opinion:
        """What it says of n images. pixels: of each square uint8 (n, size, size, 3)."""

    def maps(self, pixels: Squares, c: int) -> Sequence[Map]:
        """Where each member looks for class c in one image. pixels: of each square uint8 (1, size, size, 3)."""
