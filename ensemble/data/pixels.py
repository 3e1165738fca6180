"""Images as the network's square of pixels: opened, and resized in a way that has a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ensemble.data.filters import NEEDS_SCIKIT_IMAGE, filtered
from ensemble.registry import Registry

Pixels = npt.NDArray[np.uint8]
Resize = Callable[[Image.Image, int], Image.Image]

resizes: Registry[Resize] = Registry("resize mode")


@resizes.register("squash")
def squash(image: Image.Image, size: int) -> Image.Image:
    """The whole image, its sides scaled to `size` each on its own: nothing lost, proportions changed."""
    return image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0)


@resizes.register("crop")
def crop(image: Image.Image, size: int) -> Image.Image:
    """The largest square in the middle: proportions kept, margins lost."""
    return ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)


@resizes.register("pad")
def pad(image: Image.Image, size: int) -> Image.Image:
    """The whole image, proportions kept, black bars on the shorter side."""
    return ImageOps.pad(image, (size, size), Image.Resampling.BILINEAR)


@dataclass(frozen=True, order=True)
class Square:
    """What is made of every image: uint8 (size, size, 3), by `filters`, then by the resize mode of that name."""

    size: int
    resize: str
    filters: tuple[str, ...] = ()

    def of(self, image: Image.Image) -> Pixels:
        """The square of one upright RGB image. Raises RecipeError for a mode or a filter that does not exist."""
        return np.asarray(resizes.get(self.resize)(filtered(image, self.filters), self.size))

    @property
    def facts(self) -> dict[str, Any]:
        """What decides the pixels of one image; the version of what filters as well."""
        facts: dict[str, Any] = {"size": self.size, "resize": self.resize}
        if self.filters:
            facts["filters"] = list(self.filters)
        if NEEDS_SCIKIT_IMAGE & set(self.filters):
            facts["scikit-image"] = version("scikit-image")
        return facts

    @property
    def bytes(self) -> int:
        """Of one image."""
        return self.size * self.size * 3
