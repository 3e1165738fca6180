"""The yardstick: the notebook that everyone writes with fastai, as a script. Prints seconds and accuracies as JSON.

    python tests/benchmarks/notebook.py FOLDER ARCH SIZE EPOCHS BATCH WORKERS

FOLDER holds train/<class>/* and valid/<class>/*. Nothing is tuned: DataBlock with Resize, aug_transforms,
vision_learner, fine_tune, fastai's defaults. Weights are random, as there is no download here.
"""

from __future__ import annotations

import json
import sys
import time

started = time.perf_counter()

from fastai.vision.all import (  # noqa: E402 — the notebook's first cell counts
    CategoryBlock,
    DataBlock,
    GrandparentSplitter,
    ImageBlock,
    Learner,
    Normalize,
    Resize,
    accuracy,
    aug_transforms,
    default_split,
    get_image_files,
    imagenet_stats,
    model_meta,
    parent_label,
    set_seed,
    vision_learner,
)
from torchvision import models  # noqa: E402


def notebook(folder: str, arch: str, size: int, batch: int, workers: int) -> Learner:
    """The learner."""
    set_seed(0)
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_items=get_image_files,
        splitter=GrandparentSplitter(train_name="train", valid_name="valid"),
        get_y=parent_label,
        item_tfms=Resize(size),
        batch_tfms=[*aug_transforms(), Normalize.from_stats(*imagenet_stats)],
    )
    loaders = block.dataloaders(folder, bs=batch, num_workers=workers)
    # fastai does not find where this one's body ends, and its `vision_learner` forgets the `cut` that it is given
    model_meta[models.mobilenet_v2] = {"cut": -1, "split": default_split}
    return vision_learner(loaders, getattr(models, arch), pretrained=False, metrics=accuracy)


def main() -> None:
    """Train once."""
    folder, arch, size, epochs, batch, workers = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:7])
    learner = notebook(folder, arch, size, batch, workers)
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "accuracy": float(learner.recorder.values[-1][-1])}))


if __name__ == "__main__":
    main()
