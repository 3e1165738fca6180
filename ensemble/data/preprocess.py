"""Preprocessing of an image: filters, then resizing to a square.

A filter maps an upright 8-bit RGB image to another one and depends on the image alone. scikit-image is imported
inside the filters that need it; the others use Pillow.
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
from ensemble.recipe.schema import ResolvedRecipe

Filter = Callable[[Image.Image], Image.Image]

filters: Registry[Filter] = Registry("preprocessing filter")

NEEDS_SCIKIT_IMAGE = frozenset({"clahe", "denoise", "hair", "lesion"})


def filtered(image: Image.Image, names: Sequence[str]) -> Image.Image:
    """`image` after the filters called `names`, in their order. Raises RecipeError for an unknown filter."""
    for name in names:
        image = filters.get(name)(image)
    return image


@filters.register("grey")
def grey(image: Image.Image) -> Image.Image:
    """Grey, in three equal channels."""
    return ImageOps.grayscale(image).convert("RGB")


@filters.register("clahe")
def clahe(image: Image.Image) -> Image.Image:
    """Contrast-limited adaptive histogram equalisation (Zuiderveld 1994) of the brightness; colours are kept."""
    from skimage.exposure import equalize_adapthist

    return _image(equalize_adapthist(np.asarray(image), clip_limit=0.01))


@filters.register("edges")
def edges(image: Image.Image) -> Image.Image:
    """Edge enhancement, with EDGE_ENHANCE of Pillow."""
    return image.filter(ImageFilter.EDGE_ENHANCE)


@filters.register("smooth")
def smooth(image: Image.Image) -> Image.Image:
    """Gaussian blur with a standard deviation of 1/256 of the shorter side."""
    return image.filter(ImageFilter.GaussianBlur(min(image.size) / 256))


@filters.register("denoise")
def denoise(image: Image.Image) -> Image.Image:
    """Total variation denoising (Chambolle 2004), weight 0.05; edges are kept."""
    from skimage.restoration import denoise_tv_chambolle

    return _image(denoise_tv_chambolle(np.asarray(image) / 255.0, weight=0.05, channel_axis=-1))


@filters.register("hair")
def hair(image: Image.Image) -> Image.Image:
    """Removal of hairs, thin dark lines, after DullRazor (Lee et al. 1997).

    Lines are pixels that become brighter by more than 24 of 255 under grey closing along a line of 1/25 of the
    shorter side, in any of four directions. They are filled from the closed image, smoothed.
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
    # closing with a square of this side removes lines of any direction
    square = np.ones((length, length))
    filled = np.stack([closing(pixels[..., channel], square) for channel in range(3)], axis=-1)
    background = np.asarray(Image.fromarray(filled).filter(ImageFilter.GaussianBlur(length / 4)))
    return Image.fromarray(np.where(mask[..., None], background, pixels))


@filters.register("lesion")
def lesion(image: Image.Image) -> Image.Image:
    """Crop to the dark region nearest the centre, with a margin of a tenth of its size.

    Regions are below Otsu's threshold (1979) of the smoothed grey image. If no region covers between 1/50 and 9/10
    of the image, the image is returned unchanged.
    """
    from skimage.filters import threshold_otsu
    from skimage.measure import label, regionprops

    blurred = ImageOps.grayscale(image).filter(ImageFilter.GaussianBlur(max(1.0, min(image.size) / 64)))
    grey_pixels = np.asarray(blurred)
    if grey_pixels.min() == grey_pixels.max():
        return image
    regions = regionprops(label(grey_pixels <= threshold_otsu(grey_pixels)))
    image_area = grey_pixels.size
    candidates = [region for region in regions if image_area / 50 <= region.area <= 0.9 * image_area]
    if not candidates:
        return image
    centre = np.array(grey_pixels.shape) / 2
    # relative to the size: a large region off the centre is a likelier lesion than a small central one
    best = min(candidates, key=lambda region: np.hypot(*(np.array(region.centroid) - centre)) / region.area**0.5)
    top, left, bottom, right = best.bbox
    margin = round(0.1 * max(bottom - top, right - left))
    box = (left - margin, top - margin, right + margin, bottom + margin)
    width, height = image.size
    return image.crop((max(0, box[0]), max(0, box[1]), min(width, box[2]), min(height, box[3])))


def _image(values: npt.NDArray[np.floating]) -> Image.Image:
    """Image from float (h, w, 3) between 0 and 1."""
    return Image.fromarray((np.clip(values, 0, 1) * 255).round().astype(np.uint8))


Pixels = npt.NDArray[np.uint8]
Resize = Callable[[Image.Image, int], Image.Image]

resizes: Registry[Resize] = Registry("resize mode")


@resizes.register("squash")
def squash(image: Image.Image, size: int) -> Image.Image:
    """Both sides scaled to `size`: the whole image, with changed proportions."""
    return image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0)


@resizes.register("crop")
def crop(image: Image.Image, size: int) -> Image.Image:
    """The largest central square: proportions are kept, margins are lost."""
    return ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)


@resizes.register("pad")
def pad(image: Image.Image, size: int) -> Image.Image:
    """The whole image with its proportions, and black bars on the shorter side."""
    return ImageOps.pad(image, (size, size), Image.Resampling.BILINEAR)


@dataclass(frozen=True, order=True)
class Preprocess:
    """The preprocessing of an image to uint8 (size, size, 3): `filters`, then the resize mode `resize`."""

    size: int
    resize: str
    filters: tuple[str, ...] = ()

    def of(self, image: Image.Image) -> Pixels:
        """The preprocessed pixels of an upright RGB image. Raises RecipeError for an unknown mode or filter."""
        return np.asarray(resizes.get(self.resize)(filtered(image, self.filters), self.size))

    @property
    def parameters(self) -> dict[str, Any]:
        """Everything that decides the pixels, including the version of scikit-image if a filter uses it."""
        parameters: dict[str, Any] = {"size": self.size, "resize": self.resize}
        if self.filters:
            parameters["filters"] = list(self.filters)
        if NEEDS_SCIKIT_IMAGE & set(self.filters):
            parameters["scikit-image"] = version("scikit-image")
        return parameters

    @property
    def bytes(self) -> int:
        """Size of the pixels of an image."""
        return self.size * self.size * 3


def preprocess_of(recipe: ResolvedRecipe) -> Preprocess:
    """Image preprocessing of a resolved recipe."""
    return Preprocess(recipe.image_size, recipe.resize, recipe.preprocess)
