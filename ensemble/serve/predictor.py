"""The interface between a service and its model, and the service's limits and errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ensemble.combine.predicting_members import Calibration, EnsembleOutput
from ensemble.data.images import Colour
from ensemble.data.preprocess import Pixels, Preprocess
from ensemble.export.model_facts import ModelFacts

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Limits:
    """body: bytes of a request.  pixels: of an image, width times height.  files: images of a request.

    seconds: time limit for receiving a request, for decoding an image, and, doubled, for the whole response.
    waiting: requests that are processed or queued at a time.  batch: images that the networks process together.
    decoders: decoding processes.
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
    """status: of the HTTP response.  message: one line without a file's name."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message

    @property
    def headers(self) -> dict[str, str]:
        """Retry-After, for responses with status 503."""
        is_busy = self.status == HTTPStatus.SERVICE_UNAVAILABLE
        return {"Retry-After": str(RETRY_SECONDS)} if is_busy else {}


def busy(reason: str) -> RequestRefused:
    """The error for a valid request that the service cannot process at present."""
    return RequestRefused(HTTPStatus.SERVICE_UNAVAILABLE, f"{reason}; try again in {RETRY_SECONDS} s")


Squares = Mapping[Preprocess, Pixels]


@dataclass(frozen=True)
class Facts(ModelFacts):
    """The properties of a model that is served.

    calibration: None where there is none, for the reason in `no_calibration`.  no_maps: why there is no Grad-CAM,
    else empty.  engine: the library, its version and the device.
    """

    calibration: Calibration | None
    no_calibration: str
    no_maps: str
    engine: str


@dataclass(frozen=True)
class Reading:
    """How image files are read. squares: the distinct ones.  background: of transparent pixels, or None."""

    squares: tuple[Preprocess, ...]
    background: Colour | None
    max_pixels: int


@dataclass(frozen=True)
class HeatMap:
    """The Grad-CAM of a member. picture: uint8 (h, w, 3), its input.  heat: float (h, w) from 0 to 1.

    reason: why there is no heat, else empty.
    """

    member: str
    picture: Pixels
    heat: npt.NDArray[np.float32] | None
    reason: str = ""


class Predictor(Protocol):
    """A loaded model. Its methods are called from one thread."""

    @property
    def facts(self) -> Facts:
        """The properties of the model."""

    @property
    def reading(self) -> Reading:
        """How it needs image files to be read."""

    def output(self, pixels: Squares) -> EnsembleOutput:
        """The output for n images. pixels: for each square uint8 (n, size, size, 3)."""

    def maps(self, pixels: Squares, c: int) -> Sequence[HeatMap]:
        """Each member's Grad-CAM of class c for one image. pixels: for each square uint8 (1, size, size, 3)."""
