"""Losses by name. A loss compares logits (n, k) with class indices (n,) or probabilities (n, k)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ensemble.core.predictions import Ints
from ensemble.core.registry import Registry
from ensemble.recipe.schema import Recipe

Loss = Callable[[Tensor, Tensor], Tensor]

losses: Registry[Callable[[Recipe, Tensor | None], Loss]] = Registry("loss")


def class_weights(targets: Ints, n_classes: int) -> Tensor:
    """float32 (k,): n / (k n_c), so that every class counts the same and the mean item counts one.

    targets: int64 (n,).  As scikit-learn's `balanced`; a class without items counts nothing.
    """
    counts = np.bincount(targets, minlength=n_classes)
    return torch.from_numpy((len(targets) / (n_classes * np.maximum(counts, 1)) * (counts > 0)).astype(np.float32))


def hard_targets(targets: Tensor, classes: int) -> Tensor:
    """Class indices (n,); a student's targets hold what its teacher says behind the labels."""
    return targets[:, :classes].argmax(1) if targets.ndim == 2 else targets


class Weighted(nn.Module):
    """The weighted mean over the images of `of_classes`, (n, k), the loss were it that class, by the targets.

    weights: float (k,).  The same for a class index and for the probabilities (n, k) that say as much, so mixed
    images are weighted by what they are mixed of; torch's own divides by n where targets are probabilities.
    """

    def __init__(self, of_classes: Callable[[Tensor], Tensor], weights: Tensor | None, smoothing: float) -> None:
        super().__init__()
        self.of_classes, self.weights, self.smoothing = of_classes, weights, smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """float (): logits (n, k), targets (n,) or (n, k)."""
        wanted = self._probabilities(targets, logits)
        weights = self._weights(wanted)
        smooth = (1 - self.smoothing) * wanted + self.smoothing / wanted.shape[1]
        return (weights * smooth * self.of_classes(logits)).sum() / (weights * wanted).sum()

    def mass(self, targets: Tensor) -> float:
        """What the mean is divided by: the weights of the items together. Parts of a batch add up by it."""
        if targets.ndim == 1:
            return float(len(targets) if self.weights is None else self._on(targets.device)[targets].sum())
        return float((self._weights(targets) * targets).sum())

    def _weights(self, wanted: Tensor) -> Tensor:
        return torch.ones_like(wanted[:1]) if self.weights is None else self._on(wanted.device)[None]

    def _on(self, device: torch.device) -> Tensor:
        assert self.weights is not None
        self.weights = self.weights.to(device)
        return self.weights

    @staticmethod
    def _probabilities(targets: Tensor, logits: Tensor) -> Tensor:
        plain = targets.as_subclass(Tensor)
        soft = functional.one_hot(plain, logits.shape[1]) if plain.ndim == 1 else plain
        return soft.to(logits.dtype)


class Distilled(nn.Module):
    """(1 - alpha) `hard` + alpha T^2 cross-entropy of softmax(logits / T) with what a teacher says at that T.

    T^2 gives both parts gradients of one size (Hinton et al. 2015).  Training targets are float (n, 2k): of each
    image the label's probabilities, then the teacher's, softened. Other targets, of validation rows, are for
    `hard` alone.
    """

    def __init__(self, hard: Loss, temperature: float, alpha: float) -> None:
        super().__init__()
        self.hard, self.temperature, self.alpha = hard, temperature, alpha

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """float (): logits (n, k), targets (n, 2k), (n,) or (n, k)."""
        k = logits.shape[1]
        if targets.ndim == 1 or targets.shape[1] == k:
            return self.hard(logits, targets)
        label, said = targets[:, :k].to(logits.dtype), targets[:, k:].to(logits.dtype)
        soft = -(said * (logits / self.temperature).log_softmax(1)).sum(1).mean()
        return (1 - self.alpha) * self.hard(logits, label) + self.alpha * self.temperature**2 * soft


@losses.register("cross-entropy")
def cross_entropy(recipe: Recipe, weights: Tensor | None) -> Loss:
    """Softmax cross-entropy with `label_smoothing`."""
    if weights is None:
        return nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    return Weighted(lambda logits: -logits.log_softmax(1), weights, recipe.label_smoothing)


@losses.register("focal")
def focal(recipe: Recipe, weights: Tensor | None) -> Loss:
    """Cross-entropy times (1 - p)^`focal_gamma`, p the probability of the class (Lin et al. 2017)."""

    def of_classes(logits: Tensor) -> Tensor:
        logs = logits.log_softmax(1)
        return -((1 - logs.exp()) ** recipe.focal_gamma) * logs

    return Weighted(of_classes, weights, recipe.label_smoothing)
