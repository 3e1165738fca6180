"""What a service takes on at most."""

from __future__ import annotations

from dataclasses import dataclass

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
