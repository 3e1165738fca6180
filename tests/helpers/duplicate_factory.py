"""Pictures with known near duplicates and hard non-pairs, made from a seed.

Half are cells of scikit-learn's two photographs, which do not overlap; half are drawn. Each has a copy changed in
every way of `CHANGES`. The families of `FAMILIES` look alike and are not the same: flat skies, ships on the sea,
plain skin with a spot in the same place, one outline in other colours, one texture from two places.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance
from scipy.ndimage import gaussian_filter

from ensemble.check.near import LARGE, SMALL, near_pairs
from ensemble.data.preprocess import Preprocess

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """A picture. source: what it shows; two pictures are near duplicates if and only if it is the same.

    kind: what was done to it; `original`, or the name of the family of hard non-pairs.
    """

    image: Image.Image
    source: str
    kind: str


BARE = 5.0
"""Grey levels of 255: the standard deviation of a cell below which it shows nothing."""


def _noise(random: np.random.Generator, size: int, power: float) -> Array:
    """(size, size) of zero mean and unit variance whose spectrum falls like frequency ** -power."""
    rows, columns = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    radius = np.hypot(rows, columns)
    radius[0, 0] = np.inf
    waves = random.normal(size=radius.shape) + 1j * random.normal(size=radius.shape)
    field = np.fft.irfft2(waves * radius**-power, (size, size))
    return (field - field.mean()) / field.std()


def _picture(field: Array) -> Image.Image:
    return Image.fromarray(np.clip(field, 0, 255).astype(np.uint8))


def _grid(size: int) -> tuple[Array, Array]:
    """Row and column of every pixel, from -1 to 1."""
    line = np.linspace(-1, 1, size)
    return np.meshgrid(line, line, indexing="ij")[0], np.meshgrid(line, line, indexing="ij")[1]


def _blob(random: np.random.Generator, size: int, row: float, column: float, radius: float, rough: float) -> Array:
    """(size, size) from 0 to 1: a spot with an irregular border."""
    rows, columns = _grid(size)
    distance = np.hypot(rows - row, columns - column) + rough * _noise(random, size, 2.0)
    soft = max(0.02, 2.0 / size)
    return 1 / (1 + np.exp(np.clip((distance - radius) / soft, -40, 40)))


def scene(random: np.random.Generator, size: int) -> Image.Image:
    """A background of coloured clouds with a few things on it."""
    power = random.uniform(1.2, 2.2)
    field = 128 + 30 * np.stack([_noise(random, size, power) for _ in range(3)], -1) * random.uniform(0.2, 0.6)
    field += 35 * _noise(random, size, power)[..., None]
    for _ in range(int(random.integers(2, 7))):
        spot = _blob(random, size, *random.uniform(-0.9, 0.9, 2), random.uniform(0.1, 0.5), 0.08)[..., None]
        field = field * (1 - spot) + spot * (random.uniform(20, 235, 3) + 12 * _noise(random, size, 1.5)[..., None])
    return _picture(field)


def photographs(size: int) -> list[Image.Image]:
    """Cells of scikit-learn's photographs, none of which overlaps another, but for those that show nothing.

    A cell of bare sky holds the camera's noise alone, which no codec keeps.
    """
    from sklearn.datasets import load_sample_images

    step = size if size >= 100 else 2 * size  # a cell of a larger one shrunk is as good, and there are enough
    cells = []
    for pixels in load_sample_images().images:
        photograph = Image.fromarray(pixels)
        for top in range(0, pixels.shape[0] - step + 1, step):
            for left in range(0, pixels.shape[1] - step + 1, step):
                cell = photograph.crop((left, top, left + step, top + step))
                if np.asarray(cell.convert("L")).std() >= BARE:
                    cells.append(cell.resize((size, size), Image.Resampling.BOX))
    return cells


# ---- hard non-pairs: a family's members share what a careless eye would compare ----


def _sky(random: np.random.Generator, size: int, shared: np.random.Generator) -> Image.Image:
    rows, columns = _grid(size)
    blue, slope = np.array([110, 160, 215]) + shared.normal(0, 6, 3), shared.uniform(15, 40)
    tilt = shared.uniform(-6, 6)
    veil = random.uniform(2, 7) * _noise(random, size, 1.8)
    return _picture(blue + (slope * rows + tilt * columns + veil)[..., None] + random.normal(0, 1, (size, size, 1)))


def _ship(random: np.random.Generator, size: int, shared: np.random.Generator) -> Image.Image:
    rows, columns = _grid(size)
    horizon = shared.uniform(-0.1, 0.2)
    sea = 1 / (1 + np.exp(-(rows - horizon) * 60))
    field = (1 - sea)[..., None] * np.array([190, 205, 225]) + sea[..., None] * np.array([60, 90, 120])
    field += (4 + 6 * sea)[..., None] * _noise(random, size, 1.0)[..., None]
    middle, length = random.uniform(-0.6, 0.6), random.uniform(0.12, 0.35)
    hull = (np.abs(columns - middle) < length) & (np.abs(rows - horizon + 0.04) < random.uniform(0.04, 0.09))
    mast = (np.abs(columns - middle - random.uniform(-0.1, 0.1)) < 0.03) & (np.abs(rows - horizon + 0.2) < 0.16)
    field[hull | mast] = random.uniform(20, 110, 3)
    return _picture(gaussian_filter(field, (0.5, 0.5, 0)))


def _skin(random: np.random.Generator, size: int, shared: np.random.Generator) -> Image.Image:
    rows, columns = _grid(size)
    place, radius = shared.uniform(-0.1, 0.1, 2), shared.uniform(0.3, 0.5)
    skin = np.array([215, 165, 145]) + shared.normal(0, 5, 3)
    vignette = 1 - 0.35 * np.clip(np.hypot(rows, columns) - 0.6, 0, None)
    spot = _blob(random, size, place[0], place[1], radius * random.uniform(0.95, 1.05), 0.06)[..., None]
    dark = np.array([105, 65, 50]) + random.normal(0, 6, 3) + 14 * _noise(random, size, 1.3)[..., None]
    field = skin * vignette[..., None] * (1 - spot) + dark * spot + 4 * _noise(random, size, 0.8)[..., None]
    return _picture(field)


def _outline(random: np.random.Generator, size: int, shared: np.random.Generator) -> Image.Image:
    rows, columns = _grid(size)
    top, width = shared.uniform(-0.5, -0.2), shared.uniform(0.6, 0.85)
    body = (np.abs(columns) < width) & (np.abs(rows - 0.15) < 0.3)
    roof = (np.abs(columns) < width * (0.7 + 0.4 * (rows - top))) & (rows > top) & (rows < 0)
    wheels = sum((np.hypot(rows - 0.5, columns - side) < 0.2).astype(int) for side in (-width / 1.7, width / 1.7))
    field = random.uniform(60, 220, 3) + 18 * _noise(random, size, 1.6)[..., None] + 20 * rows[..., None]
    paint, glass = random.uniform(20, 235, 3), random.uniform(30, 120, 3)
    shine = 14 * _noise(random, size, 1.5)[..., None]
    for mask, colour in ((body, paint), (roof, glass), (wheels > 0, random.uniform(10, 40, 3))):
        field = np.where(mask[..., None], colour + shine, field)
    return _picture(gaussian_filter(field, (0.5, 0.5, 0)))


def _texture(random: np.random.Generator, size: int, shared: np.random.Generator) -> Image.Image:
    colour, power = shared.uniform(60, 200, 3), shared.uniform(0.6, 1.4)
    return _picture(colour + 28 * _noise(random, size, power)[..., None])


FAMILIES: dict[str, Callable[[np.random.Generator, int, np.random.Generator], Image.Image]] = {
    "sky": _sky,
    "ship": _ship,
    "skin": _skin,
    "outline": _outline,
    "texture": _texture,
}


# ---- changes: what makes a near duplicate ----


def _encoded(image: Image.Image, kind: str, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, kind, quality=quality)
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def _jpeg(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return _encoded(image, "JPEG", int(random.integers(60, 96)))


def _webp(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return _encoded(image, "WEBP", int(random.integers(60, 96)))


def _resized(image: Image.Image, random: np.random.Generator) -> Image.Image:
    factor = random.uniform(0.5, 1.5)
    width, height = (round(side * factor) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _mirrored(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _mirrored_jpeg(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return _jpeg(_mirrored(image, random), random)


def _cropped(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """19 of 20 rows and columns, from anywhere."""
    width, height = (round(0.95 * side) for side in image.size)
    left, top = (
        int(random.integers(0, side - kept + 1)) for side, kept in zip(image.size, (width, height), strict=True)
    )
    return image.crop((left, top, left + width, top + height))


def _cropped_jpeg(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return _jpeg(_cropped(image, random), random)


def _brighter(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(random.uniform(1.1, 1.3))


def _darker(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(random.uniform(0.7, 0.9))


CHANGES: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "jpeg": _jpeg,
    "webp": _webp,
    "resized": _resized,
    "mirrored": _mirrored,
    "mirrored jpeg": _mirrored_jpeg,
    "cropped": _cropped,
    "cropped jpeg": _cropped_jpeg,
    "brighter": _brighter,
    "darker": _darker,
}

CROPS = ("cropped", "cropped jpeg")


def samples(seed: int, size: int, sources: int, family: int = 12) -> Iterator[Sample]:
    """`sources` pictures, each with one changed copy of every kind, and hard non-pairs.

    family: how many look alike in each of two families of every kind; every third of them has a changed copy too,
    so that low texture is no excuse.
    """
    random = np.random.default_rng([seed, size])
    cells = photographs(size)
    order = random.permutation(len(cells))[: sources // 2].tolist()
    originals = [cells[at] for at in order]
    originals += [scene(random, size) for _ in range(sources - len(originals))]
    for number, image in enumerate(originals):
        yield Sample(image, f"source{number}", "original")
        for kind, change in CHANGES.items():
            yield Sample(change(image, random), f"source{number}", kind)
    kinds = list(CHANGES)
    for name, draw in FAMILIES.items():
        for group in range(2):
            for number in range(family):
                image = draw(random, size, np.random.default_rng([seed, size, group]))
                source = f"{name}{group}-{number}"
                yield Sample(image, source, name)
                if number % 3 == 0:
                    kind = kinds[int(random.integers(len(kinds)))]
                    yield Sample(CHANGES[kind](image, random), source, kind)


def near_scores(size: int, seed: int, sources: int, family: int = 12) -> dict[str, Any]:
    """Recall by kind, of all and of all but crops; precision. A mirrored pair counts only when it is called so."""
    pictures = list(samples(seed, size, sources, family))
    square = Preprocess(LARGE if size >= LARGE else SMALL, "squash")
    result = near_pairs(np.stack([square.of(item.image) for item in pictures]))
    pairs = dict(zip(zip(result.first.tolist(), result.second.tolist(), strict=True), result.mirrored, strict=True))
    original: dict[str, int] = {}
    wanted, hit = Counter[str](), Counter[str]()
    for row, item in enumerate(pictures):
        first = original.setdefault(item.source, row)
        if first != row:
            wanted[item.kind] += 1
            hit[item.kind] += pairs.get((first, row)) == ("mirrored" in item.kind)
    others = [kind for kind in wanted if kind not in CROPS]
    right = sum(pictures[a].source == pictures[b].source for a, b in pairs)
    return {
        "pictures": len(pictures),
        "planted": sum(wanted.values()),
        "recall": {kind: round(hit[kind] / wanted[kind], 4) for kind in wanted},
        "recall_of_all": round(sum(hit.values()) / sum(wanted.values()), 4),
        "recall_but_crops": round(sum(hit[kind] for kind in others) / sum(wanted[kind] for kind in others), 4),
        "pairs_found": len(pairs),
        "precision": round(right / len(pairs), 4),
    }
