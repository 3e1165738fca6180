"""scikit-learn's digits as a data set: 1,797 grey images of 8 x 8, with a fixed stratified 60/20/20 split.

Ids (and paths) are the row numbers of `load_digits()`; scikit-learn is imported only to open the images.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ensemble.core.errors import DataError
from ensemble.core.predictions import Ints
from ensemble.data.dataset import Dataset, Items, fingerprint, fingerprint_of_test
from ensemble.data.splits import held_out

if TYPE_CHECKING:
    from PIL import Image

DIGITS_FINGERPRINT = "b7a0cd4946d8da568fae3dcda0eb28e4e8de2bca14f4de90f82c2410833167a2"
"""Result of `digits_dataset().fingerprint`, a constant so that runs are compared without loading the data."""

_SPLIT_SEED = 0


@dataclass(frozen=True)
class DigitsReader:
    """Row number -> image. A picklable value, for loader processes started with spawn."""

    def __call__(self, path: str) -> Image.Image:
        """The 8 x 8 RGB image of a row. Raises DataError for a row that does not exist."""
        from PIL import Image

        pixels, _ = _digits()
        if not path.isdecimal() or int(path) >= len(pixels):
            raise DataError(f"the digits have no row {path!r}; 0 to {len(pixels) - 1} expected")
        return Image.fromarray(pixels[int(path)]).convert("RGB")


@lru_cache(maxsize=1)
def _digits() -> tuple[npt.NDArray[np.uint8], Ints]:
    """The images, uint8 (1797, 8, 8), scaled from 0..16 to 0..255, and the targets."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    return (bunch.images.astype(np.int64) * 255 // 16).astype(np.uint8), bunch.target.astype(np.int64)


def digits_dataset() -> Dataset:
    """The digits, split 60/20/20."""
    pixels, targets = _digits()
    ids = np.arange(len(targets)).astype(np.str_)
    items = Items(ids, ids, targets)
    is_test = held_out(ids, targets, 0.2, _SPLIT_SEED)
    test, rest = items.take(is_test), items.take(~is_test)
    is_valid = held_out(rest.ids, rest.targets, 0.25, _SPLIT_SEED)
    splits = {"train": rest.take(~is_valid), "valid": rest.take(is_valid), "test": test}
    classes = np.array([str(digit) for digit in range(10)])
    content = {str(row): hashlib.sha256(image.tobytes()).hexdigest() for row, image in enumerate(pixels)}
    return Dataset(
        classes=classes,
        splits=splits,
        fingerprint=fingerprint(splits, classes, content),
        test_fingerprints={"test": fingerprint_of_test(test, classes, content)},
        open_image=DigitsReader(),
        content=content,
    )
