"""Preprocessing of an image: filters, then resizing to a square.

A filter takes an upright 8-bit RGB image and gives one; it decides by the image alone. scikit-image is imported
where it is needed: the other filters are Pillow's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter, ImageOps

from ensemble.core.registry import Registry

Filter = Callable[[Image.Image], Image.Image]

filters: Registry[Filter] = Registry("preprocessing filter")

NEEDS_SCIKIT_IMAGE = frozenset({"clahe", "denoise", "hair", "lesion"})


def filtered(image: Image.Image, names: Sequence[str]) -> Image.Image:
    """`image` after the filters called `names`, in their order. Raises RecipeError for one that does not exist."""
    for name in names:
        image = filters.get(name)(image)
    return image


@filters.register("grey")
def grey(image: Image.Image) -> Image.Image:
    """Without colour, in three equal channels."""
    return ImageOps.grayscale(image).convert("RGB")


@filters.register("clahe")
def clahe(image: Image.Image) -> Image.Image:
    """Contrast-limited adaptive histogram equalisation (Zuiderveld 1994) of the brightness; colours are kept."""
    from skimage.exposure import equalize_adapthist

    return _image(equalize_adapthist(np.asarray(image), clip_limit=0.01))


@filters.register("edges")
def edges(image: Image.Image) -> Image.Image:
    """Edges made stronger, as Pillow's EDGE_ENHANCE."""
    return image.filter(ImageFilter.EDGE_ENHANCE)


@filters.register("smooth")
def smooth(image: Image.Image) -> Image.Image:
    """Blurred by a Gaussian with a standard deviation of a 256th of the shorter side."""
    return image.filter(ImageFilter.GaussianBlur(min(image.size) / 256))


@filters.register("denoise")
def denoise(image: Image.Image) -> Image.Image:
    """Noise removed, edges kept: total variation (Chambolle 2004), weight 0.05."""
    from skimage.restoration import denoise_tv_chambolle

    return _image(denoise_tv_chambolle(np.asarray(image) / 255.0, weight=0.05, channel_axis=-1))


@filters.register("hair")
def hair(image: Image.Image) -> Image.Image:
    """Thin dark lines replaced by what is beside them, after DullRazor (Lee et al. 1997).

    They are found by grey closing along lines a 25th of the shorter side long, in four directions, where that
    makes a pixel brighter by more than 24 of 255, and filled from the closed image, smoothed.
    """
    from skimage.morphology import closing, dilation, disk

    pixels = np.asarray(image)
    length = max(5, min(image.size) // 25) | 1
    dark = np.asarray(ImageOps.grayscale(image))
    lines = [np.ones((1, length)), np.ones((length, 1)), np.eye(length), np.fliplr(np.eye(length))]
    closed = np.max([closing(dark, line) for line in lines], axis=0)
    mask = dilation(closed.astype(int) - dark > 24, disk(1))
    if not mask.any():
        return image
    # a square as long as the lines takes every line out, whatever its direction
    square = np.ones((length, length))
    filled = np.stack([closing(pixels[..., channel], square) for channel in range(3)], axis=-1)
    calm = np.asarray(Image.fromarray(filled).filter(ImageFilter.GaussianBlur(length / 4)))
    return Image.fromarray(np.where(mask[..., None], calm, pixels))


@filters.register("lesion")
def lesion(image: Image.Image) -> Image.Image:
    """Cropped to the dark spot nearest the middle, with a tenth of its size around it.

    Otsu's threshold (1979) on the smoothed grey image, the regions' contours and boxes. Where no region holds
    between a fiftieth and nine tenths of the image the image is left whole.
    """
    from skimage.filters import threshold_otsu
    from skimage.measure import label, regionprops

    small = ImageOps.grayscale(image).filter(ImageFilter.GaussianBlur(max(1.0, min(image.size) / 64)))
    grey_pixels = np.asarray(small)
    if grey_pixels.min() == grey_pixels.max():
        return image
    regions = regionprops(label(grey_pixels <= threshold_otsu(grey_pixels)))
    whole = grey_pixels.size
    fitting = [region for region in regions if whole / 50 <= region.area <= 0.9 * whole]
    if not fitting:
        return image
    middle = np.array(grey_pixels.shape) / 2
    # a large region a little aside is a likelier lesion than a small one in the middle
    best = min(fitting, key=lambda region: np.hypot(*(np.array(region.centroid) - middle)) / region.area**0.5)
    top, left, bottom, right = best.bbox
    margin = round(0.1 * max(bottom - top, right - left))
    box = (left - margin, top - margin, right + margin, bottom + margin)
    width, height = image.size
    return image.crop((max(0, box[0]), max(0, box[1]), min(width, box[2]), min(height, box[3])))


def _image(values: npt.NDArray[np.floating]) -> Image.Image:
    """float (h, w, 3) between 0 and 1 as an image."""
    return Image.fromarray((np.clip(values, 0, 1) * 255).round().astype(np.uint8))


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
class Preprocess:
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
