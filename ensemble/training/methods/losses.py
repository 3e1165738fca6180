"""Losses by name. A loss takes logits (n, k) and class indices (n,) or probabilities (n, k)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ensemble.core.predictions import Ints
from ensemble.core.registry import Registry
from ensemble.recipe.schema import ResolvedRecipe

Loss = Callable[[Tensor, Tensor], Tensor]

losses: Registry[Callable[[ResolvedRecipe, Tensor | None], Loss]] = Registry("loss")


def class_weights(targets: Ints, n_classes: int) -> Tensor:
    """Class weights n / (k n_c), float32 (k,): all classes have the same total weight, the mean item has weight 1.

    targets: int64 (n,).  As scikit-learn's `balanced`; a class without items has weight 0.
    """
    counts = np.bincount(targets, minlength=n_classes)
    return torch.from_numpy((len(targets) / (n_classes * np.maximum(counts, 1)) * (counts > 0)).astype(np.float32))


def hard_targets(targets: Tensor, classes: int) -> Tensor:
    """Class indices (n,); of a student's targets (n, 2k), the last k columns (the teacher's) are ignored."""
    return targets[:, :classes].argmax(1) if targets.ndim == 2 else targets


class Weighted(nn.Module):
    """Weighted mean over the images of the expected loss under the target probabilities.

    class_losses: logits to losses (n, k), one for each class as target.  weights: float (k,).
    Class indices and one-hot probabilities give the same value, so mixed images have mixed weights; torch's
    cross-entropy divides by n instead if targets are probabilities.
    """

    def __init__(self, class_losses: Callable[[Tensor], Tensor], weights: Tensor | None, smoothing: float) -> None:
        super().__init__()
        self.class_losses, self.weights, self.smoothing = class_losses, weights, smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss, float (), of logits (n, k) and targets (n,) or (n, k)."""
        probs = self._probabilities(targets, logits)
        weights = self._weights(probs)
        smooth = (1 - self.smoothing) * probs + self.smoothing / probs.shape[1]
        return (weights * smooth * self.class_losses(logits)).sum() / (weights * probs).sum()

    def mass(self, targets: Tensor) -> float:
        """Total weight of the items, the denominator of the mean; used to combine the pieces of a batch."""
        if targets.ndim == 1:
            return float(len(targets) if self.weights is None else self._weights_on(targets.device)[targets].sum())
        return float((self._weights(targets) * targets).sum())

    def _weights(self, probs: Tensor) -> Tensor:
        return torch.ones_like(probs[:1]) if self.weights is None else self._weights_on(probs.device)[None]

    def _weights_on(self, device: torch.device) -> Tensor:
        assert self.weights is not None
        self.weights = self.weights.to(device)
        return self.weights

    @staticmethod
    def _probabilities(targets: Tensor, logits: Tensor) -> Tensor:
        plain = targets.as_subclass(Tensor)
        soft = functional.one_hot(plain, logits.shape[1]) if plain.ndim == 1 else plain
        return soft.to(logits.dtype)


class Distilled(nn.Module):
    """Distillation: (1 - alpha) `hard` + alpha T^2 cross-entropy of softmax(logits / T) with the teacher's at T.

    T^2 gives both terms gradients of equal scale (Hinton et al. 2015).  Training targets are float (n, 2k): label
    probabilities, then the teacher's probabilities at temperature T. For other targets, of validation rows, the
    loss is `hard`.
    """

    def __init__(self, hard: Loss, temperature: float, alpha: float) -> None:
        super().__init__()
        self.hard, self.temperature, self.alpha = hard, temperature, alpha

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss, float (), of logits (n, k) and targets (n, 2k), (n,) or (n, k)."""
        k = logits.shape[1]
        if targets.ndim == 1 or targets.shape[1] == k:
            return self.hard(logits, targets)
        label, teacher_probs = targets[:, :k].to(logits.dtype), targets[:, k:].to(logits.dtype)
        distillation = -(teacher_probs * (logits / self.temperature).log_softmax(1)).sum(1).mean()
        return (1 - self.alpha) * self.hard(logits, label) + self.alpha * self.temperature**2 * distillation


@losses.register("cross-entropy", keys=("label_smoothing",))
def cross_entropy(recipe: ResolvedRecipe, weights: Tensor | None) -> Loss:
    """Softmax cross-entropy with `label_smoothing`."""
    if weights is None:
        return nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    return Weighted(lambda logits: -logits.log_softmax(1), weights, recipe.label_smoothing)


@losses.register("focal", keys=("label_smoothing", "focal_gamma"))
def focal(recipe: ResolvedRecipe, weights: Tensor | None) -> Loss:
    """Focal loss: cross-entropy times (1 - p)^`focal_gamma`, p the target's probability (Lin et al. 2017)."""

    def class_losses(logits: Tensor) -> Tensor:
        logs = logits.log_softmax(1)
        return -((1 - logs.exp()) ** recipe.focal_gamma) * logs

    return Weighted(class_losses, weights, recipe.label_smoothing)
