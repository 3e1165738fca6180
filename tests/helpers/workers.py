"""Functions that tests run in processes of their own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ensemble.data.digits import digits_dataset
from ensemble.data.image_cache import StoredImages, open_images
from ensemble.data.preprocess import Preprocess
from ensemble.runs.run import locked


def hold_run(folder: Path, ready: Any, leave: Any) -> None:
    with locked(folder, "a-1"):
        ready.set()
        leave.wait(30)


def compute_for(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def decode_digits(folder: Path, barrier: Any, notes: Any) -> None:
    barrier.wait()
    (result,) = open_images(digits_dataset(), ["train"], [Preprocess(24, "squash")], folder, note=notes.append)
    assert isinstance(result, StoredImages)
