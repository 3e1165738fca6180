"""Preprocessed images kept from the check of the files, so that the image cache need not decode them again."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

    from ensemble.data.preprocess import Pixels, Preprocess

SHARE, MAX_BYTES = 0.25, 4 << 30
"""Kept at most: this share of the memory that is free at the beginning, and so many bytes."""


@dataclass
class DecodedImages:
    """Preprocessed pixels by the digest of the file, in memory; a copy that another process gets is empty.

    transforms: what to keep of every image; those with an unknown filter or resize mode are left out, as training
    names them.  room: bytes that may still be added.
    """

    transforms: tuple[Preprocess, ...] = ()
    room: float = 0.0
    _pixels: dict[str, dict[Preprocess, Pixels]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def within_memory(cls, transforms: Sequence[Preprocess]) -> DecodedImages:
        """For these transforms, within SHARE and MAX_BYTES."""
        import psutil

        known = filter(_exists, dict.fromkeys(transforms))
        room = min(MAX_BYTES, SHARE * psutil.virtual_memory().available)
        return cls(tuple(known), room)

    def add(self, digest: str, image: Image.Image) -> None:
        """Keep the pixels of an image that has been decoded, as far as there is room. Used by several threads."""
        with self._lock:
            needed = sum(transform.bytes for transform in self.transforms)
            if not self.transforms or digest in self._pixels or needed > self.room:
                return
            self.room -= needed
            self._pixels[digest] = {}
        try:
            self._pixels[digest] = {transform: transform.of(image) for transform in self.transforms}
        except Exception:  # a filter that fails is reported where the cache is written
            self._pixels.pop(digest, None)

    def take(self, digest: str, transforms: Sequence[Preprocess]) -> list[Pixels] | None:
        """The pixels of an image for each transform, which are then forgotten; None if any of them is not kept."""
        kept = self._pixels.pop(digest, {})
        return [kept[transform] for transform in transforms] if set(transforms) <= set(kept) else None

    def forget(self, digests: Iterable[str]) -> None:
        """Free the memory of images that are not needed any more."""
        for digest in digests:
            self._pixels.pop(digest, None)

    def __reduce__(self) -> tuple[type[DecodedImages], tuple[()]]:
        return DecodedImages, ()


def _exists(transform: Preprocess) -> bool:
    from ensemble.data.preprocess import filters, resizes

    return transform.resize in resizes and all(name in filters for name in transform.filters)
