"""Batches of images made ahead and kept on a device."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.digit_loaders import digit_loaders

from ensemble.inference.image_batches import prefetched


def test_prefetched_batches_keep_order_and_errors() -> None:
    def counted(error_at: int | None) -> Iterator[int]:
        for i in range(20):
            if i == error_at:
                raise ValueError("here")
            yield i

    assert list(prefetched(lambda: counted(None))) == list(range(20))
    got: list[int] = []
    with pytest.raises(ValueError, match="here"):
        got.extend(prefetched(lambda: counted(7)))
    before = threading.active_count()
    first = prefetched(lambda: counted(None))
    assert next(first) == 0
    first.close()
    time.sleep(0.3)
    assert threading.active_count() <= before


@pytest.mark.slow
def test_images_on_a_device_are_the_same_batches(tmp_path: Path) -> None:
    from ensemble.inference.image_batches import DeviceImages, device_images

    _, images = digit_loaders(tmp_path)
    there = DeviceImages(images.squares, torch.from_numpy(images.squares.pixels))  # the processor is a device too
    rows = np.array([5, 0, 5, 9])
    assert torch.equal(there.batch(rows), images.batch(rows))
    assert there.batch(rows).is_contiguous(memory_format=torch.channels_last)
    assert (there.rows(["3", "4"]) == images.rows(["3", "4"])).all()
    assert device_images(images.squares, torch.device("cpu"), 0) is None
