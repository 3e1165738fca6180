"""Previews without training: the learning-rate finder's curve, and augmented images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from fastai.data.transforms import IntToFloatTensor
from fastai.vision.core import TensorImage
from fasttransform import Pipeline
from torch import Tensor

from ensemble.core.files import write_atomically
from ensemble.data.dataset import Dataset
from ensemble.data.preprocess import Pixels
from ensemble.report.plot import RangeTest
from ensemble.training.engine.checkpoint import seed_everything
from ensemble.training.engine.hardware import describe
from ensemble.training.engine.loaders import data_loaders
from ensemble.training.engine.loop import Training
from ensemble.training.engine.lr_finder import Curve, curves_csv
from ensemble.training.jobs.member import initial_network
from ensemble.training.jobs.plan import Job, TrainingContext
from ensemble.training.jobs.progress import ProgressWatcher
from ensemble.training.jobs.record import RecordInProgress, new_record
from ensemble.training.methods.augment import transforms
from ensemble.training.methods.samplers import smaller_batch


def augmented(pixels: Pixels, policy: str, seed: int = 0) -> Pixels:
    """Images, uint8 (n, size, size, 3), augmented once with `policy`. Raises RecipeError for an unknown policy."""
    seed_everything(seed, "sheet", policy)
    pipeline = Pipeline([IntToFloatTensor(), *transforms(policy, pixels.shape[1])], split_idx=0)
    batch = pipeline(TensorImage(torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)))
    plain = torch.as_tensor(batch).as_subclass(Tensor)
    changed: Pixels = (plain.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return changed


def rate_curve(job: Job, dataset: Dataset, context: TrainingContext) -> Curve:
    """The finder's curve for `lr: auto` in this job's first stage, with the same seeds as in training."""
    with ProgressWatcher(f"{job.path.name} finder", job.recipe, context.listener) as watcher:
        images = context.images(job.recipe, "train", watcher.reading)
        progress = RecordInProgress(job, new_record(job, dataset, describe(context.device)))
        network = initial_network(job, dataset, images, context.device, progress)
        if reason := smaller_batch(job.recipe, dataset.splits["train"].targets, len(dataset.classes)):
            context.listener.note(f"{job.path.name}: {reason}")
        seed_everything(job.recipe.seed, "loaders")
        loaders = data_loaders(job.recipe, dataset, images, *progress.record.normalisation, device=context.device)
        return Training(job.recipe, network, loaders, job.path, {}, lambda *_: None, watcher).curve()


def write_curve(curve: Curve, stem: Path) -> tuple[Path, Path]:
    """Write `<stem>.csv` and `<stem>.png`; returns their paths."""
    from ensemble.report import figures

    picture = figures.rates(RangeTest(curve.rates, curve.losses, curve.suggestion), stem.name)
    table = write_atomically(stem.with_name(f"{stem.name}.csv"), curves_csv({0: curve}))
    return table, write_atomically(stem.with_name(f"{stem.name}.png"), picture)
