"""Augmentation policies on real images, as a batch sees them in training."""

from __future__ import annotations

import numpy as np
import torch
from fastai.data.transforms import IntToFloatTensor
from fastai.vision.core import TensorImage
from fasttransform import Pipeline
from torch import Tensor

from ensemble.data.pixels import Pixels
from ensemble.training.augment import transforms
from ensemble.training.seeds import seed_everything


def augmented(pixels: Pixels, policy: str, seed: int = 0) -> Pixels:
    """uint8 (n, size, size, 3) after one draw of `policy`. Raises RecipeError for a policy that does not exist."""
    seed_everything(seed, "sheet", policy)
    pipeline = Pipeline([IntToFloatTensor(), *transforms(policy, pixels.shape[1])], split_idx=0)
    batch = pipeline(TensorImage(torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)))
    plain = torch.as_tensor(batch).as_subclass(Tensor)
    changed: Pixels = (plain.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return changed
