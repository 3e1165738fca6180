"""What every augmentation of a batch has in common."""

from __future__ import annotations

from typing import Any, Protocol

from fastai.vision.augment import RandTransform
from fastai.vision.core import TensorImage
from torch import Tensor

from ensemble.predictions import Ints


class BatchTransform(RandTransform):  # type: ignore[misc]
    """Changes a training batch, float (n, c, h, w) between 0 and 1, to one of the same shape, in `changed`.

    It draws from torch's global generator, on the batch's device, a value for each image.
    """

    split_idx, order = 0, 30

    def __init__(self) -> None:
        super().__init__(p=1.0)

    def before_call(self, b: Any, split_idx: int) -> None:
        """Nothing is drawn here: `changed` draws for the whole batch at once."""
        self.do = True

    def encodes(self, x: TensorImage) -> TensorImage:
        """The batch changed; a single image, as `show_batch` may hand on, as it is."""
        return x.as_subclass(type(x)) if x.ndim != 4 else type(x)(self.changed(x.as_subclass(Tensor)))

    def changed(self, x: Tensor) -> Tensor:
        """float (n, c, h, w) to the same shape."""
        raise NotImplementedError


class Loader(Protocol):
    """at: int64 (n,), the numbers of the items in the batch at hand.  epoch: from 0.  items: how many there are."""

    at: Ints
    epoch: int
    items: int


class ItemTransform(BatchTransform):
    """A transform that asks its loader, which sets itself here, what items the batch holds and in which epoch."""

    loader: Loader | None = None
