"""What a service needs of a model, its limits and its errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ensemble.combine.predicting_members import Calibration, EnsembleOutput
from ensemble.core.predictions import Wide
from ensemble.data.images import Colour
from ensemble.data.preprocess import Pixels, Preprocess

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Limits:
    """body: bytes of a request.  pixels: of an image, width times height.  files: images of a request.

    seconds: for receiving a request, for decoding an image, and twice that for the whole answer.
    waiting: requests that are in the house at a time.  batch: images that the networks look at together.
    decoders: processes that decode.
    """

    body: int = 32 * MEGABYTE
    pixels: int = 50_000_000
    files: int = 16
    seconds: float = 30.0
    waiting: int = 32
    batch: int = 16
    decoders: int = 2


RETRY_SECONDS = 2


class RequestRefused(Exception):
    """status: what HTTP calls it.  message: one line without a file's name."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message

    @property
    def headers(self) -> dict[str, str]:
        """When to come again, where that helps."""
        busy = self.status == HTTPStatus.SERVICE_UNAVAILABLE
        return {"Retry-After": str(RETRY_SECONDS)} if busy else {}


def busy(why: str) -> RequestRefused:
    """For a request that is in order and comes at the wrong time."""
    return RequestRefused(HTTPStatus.SERVICE_UNAVAILABLE, f"{why}; try again in {RETRY_SECONDS} s")


Squares = Mapping[Preprocess, Pixels]


@dataclass(frozen=True)
class ServedMember:
    """A member that has a part in the answer. weight: None where the rule has none for each member."""

    id: str
    arch: str
    weight: float | None


@dataclass(frozen=True)
class Facts:
    """What is known of a model before it sees an image.

    members: the m whose outputs it gives.  weights: float64 (m,), with which they are compared.  score: how good
    it is, None where nobody knows.  calibration: None, and why, where there is none.  no_maps: why it draws no
    Grad-CAM, else nothing.  engine: what computes.
    """

    run: str
    kind: str
    classes: tuple[str, ...]
    members: tuple[ServedMember, ...]
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

    squares: tuple[Preprocess, ...]
    background: Colour | None
    max_pixels: int


@dataclass(frozen=True)
class HeatMap:
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

    def output(self, pixels: Squares) -> EnsembleOutput:
        """What it says of n images. pixels: of each square uint8 (n, size, size, 3)."""

    def maps(self, pixels: Squares, c: int) -> Sequence[HeatMap]:
        """Where each member looks for class c in one image. pixels: of each square uint8 (1, size, size, 3)."""
