"""Images a second of training on a GPU: `ens`, the bare torch loop, the notebook, at two sizes.

    python tests/benchmarks/on_gpu.py FOLDER [RESULT.json] [--size 64 ...] [--arch resnet34 ...]

FOLDER holds train/<class>/* and valid/<class>/*, of which the notebook gets 2,048 and 512 images. `ens` and the
bare loop are those of `bare_loop.py`, in batches of 64. The notebook's rate is that of its second epoch without
validation; it gets 0, 1, 2 and 16 workers (fastai's default on 16 cores or more) for the first architecture at each
size, then the fastest of 0, 1 and 2, and 16.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from bare_loop import BATCH, Place, training
from fastai.callback.core import Callback
from machine import Kept
from notebook import notebook
from part import part

from ensemble.data.load import load_dataset
from ensemble.recipe.data_spec import DataSpec
from ensemble.training.engine.hardware import choose_device
from ensemble.training.jobs.plan import TrainingContext

ARCHS, SIZES = ("resnet34", "densenet121", "vgg19", "efficientnet_b0"), (64, 224)
FEW, MANY = (0, 1, 2), min(16, os.cpu_count() or 1)
TRAIN, VALID, CLASSES = 2_048, 512, 10
BARE, NOTEBOOK = 0.85, 5.0


class Clock(Callback):  # type: ignore[misc]
    """Images a second of the last epoch's training."""

    rate = 0.0

    def before_train(self) -> None:
        self.started = time.perf_counter()

    def after_train(self) -> None:
        self.rate = len(self.dls.train) * BATCH / (time.perf_counter() - self.started)


def rate_of_notebook(folder: Path, arch: str, size: int, workers: int) -> float:
    """Images a second of the notebook's second epoch; its recorder has waited for the GPU at every batch."""
    learner = notebook(str(folder), arch, size, BATCH, workers)
    clock = Clock()
    learner.unfreeze()
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(2, cbs=[clock])
    print(f"notebook {arch} at {size} px, {workers} workers: {clock.rate:.0f}", flush=True)
    return clock.rate


def main() -> None:
    """What is missing, then the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("result", type=Path, nargs="?")
    parser.add_argument("--size", type=int, action="append")
    parser.add_argument("--arch", action="append", choices=ARCHS)
    requested = parser.parse_args()
    kept, device = Kept(requested.result), choose_device(None)
    spec = DataSpec(form="folders", path=str(requested.folder))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        part(requested.folder, folder / "few", {"train": TRAIN // CLASSES, "valid": VALID // CLASSES}, spread=True)
        data = load_dataset(spec, folder)
        context = TrainingContext(data, device, folder / ".data" / "squares")
        for size in requested.size or SIZES:
            place, fastest = Place(spec, folder, device, size), FEW
            for arch in requested.arch or ARCHS:
                at = f"{arch} at {size} px"
                kept.of(f"training {at}", lambda arch=arch, place=place: training(place, arch, data, context))  # type: ignore[misc]
                for workers in (*fastest, MANY):
                    kept.of(
                        f"notebook {at}, {workers} workers",
                        lambda key=(arch, size, workers): rate_of_notebook(folder / "few", *key),  # type: ignore[misc]
                    )
                rates = {workers: kept.figures[f"notebook {at}, {workers} workers"] for workers in fastest}
                fastest = (max(rates, key=lambda workers: rates[workers]),)
                many = kept.figures[f"notebook {at}, {MANY} workers"]
                kept.put(at, ratios(kept.figures[f"training {at}"], max(rates.values()), many))
                print(at, kept.figures[at], flush=True)


def ratios(trained: dict[str, Any], few: float, many: float) -> dict[str, Any]:
    """What `ens` reaches of the bare loop, and how many times the notebook it is, by its number of workers."""
    ours = sorted(item for item, _ in trained["pairs"])[len(trained["pairs"]) // 2]
    graphed = trained.get("bare loop with graphs")
    return {
        "images a second": round(ours),
        "of the bare loop": round(trained["ratio"], 3),
        "asked of the bare loop": BARE,
        "of the bare loop with graphs": round(ours / graphed, 3) if graphed else None,
        "times the notebook": round(ours / few, 2),
        "asked of the notebook": NOTEBOOK,
        f"times the notebook with {MANY} workers": round(ours / many, 2),
    }


if __name__ == "__main__":
    main()
