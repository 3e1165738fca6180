"""Features of a frozen body: cached for the training of the head, or used to fit a linear head.

Fine-tuning from a fitted head preserves the pretrained features, which a random head distorts at first
(Kumar et al. 2022, "Fine-tuning can distort pretrained features and underperform out-of-distribution").
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from fastai.callback.core import Callback
from fastai.data.core import DataLoaders
from torch import Tensor, nn

from ensemble.inference.image_batches import PlaceholderImages, to_device
from ensemble.models.network import Features, Network, last_layer
from ensemble.recipe.schema import ResolvedRecipe, Stage
from ensemble.runs.history import Epoch
from ensemble.training.engine import callback_order
from ensemble.training.engine.checkpoint import random_states, restore_random_states
from ensemble.training.engine.epochs import is_due
from ensemble.training.engine.loaders import BatchLoader, RowBatches
from ensemble.training.methods.losses import Loss, hard_targets


def caches_features(recipe: ResolvedRecipe, stage: Stage) -> bool:
    """Whether a stage computes the body's features once and trains the head on them."""
    return recipe.cache_features and stage.train == "head"


class CachedFeatures(Callback):  # type: ignore[misc]
    """Replaces the images of a batch by their features, without loading the images.

    Features are computed before the first pass over a loader, in evaluation mode, in the order of its items, and
    the random states are restored afterwards: a resumed run has the same features and draws the same numbers.
    """

    order = callback_order.CACHED_FEATURES

    def __init__(self, on_batch: Callable[[], None]) -> None:
        super().__init__()
        self.on_batch = on_batch
        self.cached: dict[BatchLoader, Features] = {}
        self.lookups: dict[BatchLoader, RowBatches] = {}

    def before_train(self) -> None:
        """Prepare the training loader."""
        self._use_placeholders()

    def before_validate(self) -> None:
        """Prepare the validation loader."""
        self._use_placeholders()

    def before_batch(self) -> None:
        """Replace images by features."""
        features = self.cached[self.dl]
        self.learn.xb = (features[to_device(self.dl.batch_items, features.device)],)

    def after_fit(self) -> None:
        """Restore the image look-up of every loader."""
        for loader, lookup in self.lookups.items():
            loader.lookup = lookup
        self.lookups = {}

    def _use_placeholders(self) -> None:
        loader = self.dl
        if loader not in self.cached:
            self.cached[loader] = self._compute(loader)
        if loader not in self.lookups:
            self.lookups[loader] = loader.lookup
            loader.lookup = replace(loader.lookup, images=PlaceholderImages(device=loader.lookup.images.device))

    def _compute(self, loader: BatchLoader) -> Features:
        states, was_training = random_states(loader.rng), self.model.training
        self.model.eval()
        parts = []
        for x, *_ in loader.new(shuffle=False, drop_last=False, bs=max(1, loader.bs // self.pieces)):
            parts.append(self.model.features(x))
            self.on_batch()
        self.model.train(was_training)
        restore_random_states(states, loader.rng)
        return torch.cat(parts)  # type: ignore[return-value]


DECAYS = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Candidate L2 penalties, for features with standard deviation 1."""
HELD_OUT_SHARE = 0.2
"""Share of the training rows that is held out to choose the penalty."""
MAX_SEARCH_ROWS, MAX_VALUES = 5_000, 2**28
"""Rows used to choose the penalty; feature values used for the fit, 1 GiB: larger sets are sampled."""
STEPS = 100


@dataclass
class Regression:
    """Fits a linear head to the features (n, d) and targets collected in one or more passes over the images.

    loss: function of logits and targets, as in training.  decay: the chosen L2 penalty.
    """

    loss: Loss
    features: list[Tensor] = field(default_factory=list)
    targets: list[Tensor] = field(default_factory=list)
    decay: float | None = None

    def add(self, network: Network, loader: BatchLoader, on_batch: Callable[[], None], pieces: int = 1) -> None:
        """Add the features of one pass over the training images, augmented as in training, without gradients."""
        training = network.training
        network.eval()
        images = loader.new(shuffle=False, drop_last=False, bs=max(1, loader.bs // pieces))
        for x, y in images:
            self.features.append(network.features(x).as_subclass(Tensor).float())
            self.targets.append(y.as_subclass(Tensor))
            on_batch()
        network.train(training)

    def fit(self, layer: nn.Linear) -> tuple[float, float]:
        """Fit the layer to all added rows; returns the loss without penalty and the accuracy on these rows.

        Draws from torch's global generator.
        """
        features, targets = torch.cat(self.features), torch.cat(self.targets)
        max_rows = MAX_VALUES // features.shape[1]
        if len(features) > max_rows:
            sample = torch.randperm(len(features))[:max_rows].to(features.device)
            features, targets = features[sample], targets[sample]
        mean, std = features.mean(0), features.std(0, correction=0)
        std = torch.where(std > 0, std, torch.ones_like(std))
        scaled = (features - mean) / std
        if self.decay is None:
            self.decay = self._choose_decay(scaled, targets, layer.out_features)
        weight, bias = _fit_linear(scaled, targets, layer.out_features, self.decay, self.loss)
        with torch.no_grad():
            layer.weight.copy_(weight / std)
            layer.bias.copy_(bias - (weight / std) @ mean)
            logits = scaled @ weight.T + bias
        correct = logits.argmax(1) == hard_targets(targets, layer.out_features)
        return float(self.loss(logits, targets)), float(correct.float().mean())

    def evaluate(self, network: Network, loader: BatchLoader) -> tuple[float, float]:
        """Mean loss and accuracy of the network on the items of a loader."""
        loss = correct = 0.0
        training = network.training
        network.eval()
        with torch.no_grad():
            for x, y in loader:
                logits, targets = network(x), y.as_subclass(Tensor)
                loss += float(self.loss(logits, targets)) * len(targets)
                correct += float((logits.argmax(1) == hard_targets(targets, logits.shape[1])).sum())
        network.train(training)
        return loss / loader.n, correct / loader.n

    def _choose_decay(self, features: Tensor, targets: Tensor, classes: int) -> float:
        """The penalty with the lowest loss on held-out rows; the first one if there are too few rows."""
        order = torch.randperm(len(features))[:MAX_SEARCH_ROWS].to(features.device)
        count = int(len(order) * HELD_OUT_SHARE)
        if count < 1:
            return DECAYS[0]
        held_out, train = order[:count], order[count:]
        losses = {}
        for decay in DECAYS:
            weight, bias = _fit_linear(features[train], targets[train], classes, decay, self.loss)
            losses[decay] = float(self.loss(features[held_out] @ weight.T + bias, targets[held_out]))
            if losses[decay] > 1.2 * min(losses.values()):
                break  # smaller penalties are even worse
        return min(losses, key=lambda decay: losses[decay])


def fit_head(
    regression: Regression,
    network: Network,
    loaders: DataLoaders,
    epochs: int,
    every: int | None,
    on_batch: Callable[[], None],
    pieces: int = 1,
) -> Iterator[Epoch]:
    """Fit the head after each of `epochs` passes over the training images; yields one history row for each.

    every: passes between validations, None for no validation.
    """
    for epoch in range(epochs):
        started = time.perf_counter()
        regression.add(network, loaders.train, on_batch, pieces)
        loss, accuracy = regression.fit(last_layer(network))
        validate = every is not None and is_due(epoch, epochs, every)
        valid = regression.evaluate(network, loaders.valid) if validate else (None, None)
        yield Epoch(0, epoch, loss, valid[0], accuracy, valid[1], 0.0, round(time.perf_counter() - started, 3))


def _fit_linear(features: Tensor, targets: Tensor, classes: int, decay: float, loss: Loss) -> tuple[Tensor, Tensor]:
    """Weight (classes, d) and bias (classes,) that minimise loss + decay / 2 * sum of squared weights."""
    weight = torch.zeros(classes, features.shape[1], device=features.device, requires_grad=True)
    bias = torch.zeros(classes, device=features.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=STEPS, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(features @ weight.T + bias, targets) + decay * weight.square().sum() / 2
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
