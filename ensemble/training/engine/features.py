"""Features of a frozen body: cached for its head, or a linear head fitted to them.

Starting from a fitted head keeps the body's features while everything is fine-tuned, where a random head distorts
them first (Kumar et al. 2022, "Fine-tuning can distort pretrained features and underperform out-of-distribution").
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
from ensemble.recipe.schema import Recipe, Stage
from ensemble.runs.history import Epoch
from ensemble.training.engine.checkpoint import random_states, restore_random_states
from ensemble.training.engine.epochs import is_due
from ensemble.training.engine.loaders import BatchLoader, RowBatches
from ensemble.training.methods.losses import Loss, hard_targets


def caches_features(recipe: Recipe, stage: Stage) -> bool:
    """Whether the body sees every image of a stage only once."""
    return recipe.cache_features and stage.train == "head"


class CachedFeatures(Callback):  # type: ignore[misc]
    """Hands the network the features of a batch in place of its images, which are then not even looked up.

    They are computed before a loader is first gone through, in evaluation mode, in the order of its items and
    without a trace in any random state: a run that is resumed has the very same, and draws what it would have
    drawn.
    The order is after History (80), whose clock is to count their time.
    """

    order = 85

    def __init__(self, on_batch: Callable[[], None]) -> None:
        super().__init__()
        self.on_batch = on_batch
        self.known: dict[BatchLoader, Features] = {}
        self.seen: dict[BatchLoader, RowBatches] = {}

    def before_train(self) -> None:
        """Training images."""
        self._leave_images_out()

    def before_validate(self) -> None:
        """Validation images."""
        self._leave_images_out()

    def before_batch(self) -> None:
        """Features for images."""
        features = self.known[self.dl]
        self.learn.xb = (features[to_device(self.dl.at, features.device)],)

    def after_fit(self) -> None:
        """Whatever comes after the stage sees images again."""
        for loader, lookup in self.seen.items():
            loader.lookup = lookup
        self.seen = {}

    def _leave_images_out(self) -> None:
        loader = self.dl
        if loader not in self.known:
            self.known[loader] = self._computed(loader)
        if loader not in self.seen:
            self.seen[loader] = loader.lookup
            loader.lookup = replace(loader.lookup, images=PlaceholderImages(device=loader.lookup.images.device))

    def _computed(self, loader: BatchLoader) -> Features:
        states, was = random_states(loader.rng), self.model.training
        self.model.eval()
        parts = []
        for x, *_ in loader.new(shuffle=False, drop_last=False, bs=max(1, loader.bs // self.pieces)):
            parts.append(self.model.features(x))
            self.on_batch()
        self.model.train(was)
        restore_random_states(states, loader.rng)
        return torch.cat(parts)  # type: ignore[return-value]


DECAYS = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""L2 penalties that are tried, of features with a standard deviation of 1."""
HELD_OUT = 0.2
"""Of the training rows, for the choice of the penalty."""
MOST_TRIED, MOST_NUMBERS = 5_000, 2**28
"""Rows on which penalties are tried, and numbers of all features, 1 GiB, of which more are a sample."""
STEPS = 100


@dataclass
class Regression:
    """Features (n, d) and targets of the images seen so far, over one pass or more, and the head that fits them.

    loss: of logits and targets, as training has it.  decay: the penalty that was chosen.
    """

    loss: Loss
    features: list[Tensor] = field(default_factory=list)
    targets: list[Tensor] = field(default_factory=list)
    decay: float | None = None

    def add(self, network: Network, loader: BatchLoader, on_batch: Callable[[], None], pieces: int = 1) -> None:
        """One pass over the training images, augmented as in training, without gradients."""
        training = network.training
        network.eval()
        images = loader.new(shuffle=False, drop_last=False, bs=max(1, loader.bs // pieces))
        for x, y in images:
            self.features.append(network.features(x).as_subclass(Tensor).float())
            self.targets.append(y.as_subclass(Tensor))
            on_batch()
        network.train(training)

    def fit(self, layer: nn.Linear) -> tuple[float, float]:
        """Fit the layer to all that was added; the loss without penalty and the accuracy on these rows.

        Draws from torch's global generator.
        """
        features, targets = torch.cat(self.features), torch.cat(self.targets)
        most = MOST_NUMBERS // features.shape[1]
        if len(features) > most:
            kept = torch.randperm(len(features))[:most].to(features.device)
            features, targets = features[kept], targets[kept]
        mean, spread = features.mean(0), features.std(0, correction=0)
        spread = torch.where(spread > 0, spread, torch.ones_like(spread))
        scaled = (features - mean) / spread
        if self.decay is None:
            self.decay = self._chosen(scaled, targets, layer.out_features)
        weight, bias = _fitted(scaled, targets, layer.out_features, self.decay, self.loss)
        with torch.no_grad():
            layer.weight.copy_(weight / spread)
            layer.bias.copy_(bias - (weight / spread) @ mean)
            logits = scaled @ weight.T + bias
        right = logits.argmax(1) == hard_targets(targets, layer.out_features)
        return float(self.loss(logits, targets)), float(right.float().mean())

    def scored(self, network: Network, loader: BatchLoader) -> tuple[float, float]:
        """The mean loss and the accuracy of the network on the items of a loader."""
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

    def _chosen(self, features: Tensor, targets: Tensor, classes: int) -> float:
        """The penalty with which the rows that are held out are predicted best; the first for too few rows."""
        order = torch.randperm(len(features))[:MOST_TRIED].to(features.device)
        count = int(len(order) * HELD_OUT)
        if count < 1:
            return DECAYS[0]
        held_out, kept = order[:count], order[count:]
        losses = {}
        for decay in DECAYS:
            weight, bias = _fitted(features[kept], targets[kept], classes, decay, self.loss)
            losses[decay] = float(self.loss(features[held_out] @ weight.T + bias, targets[held_out]))
            if losses[decay] > 1.2 * min(losses.values()):
                break  # weaker penalties are worse yet
        return min(losses, key=lambda decay: losses[decay])


def fitting(
    regression: Regression,
    network: Network,
    loaders: DataLoaders,
    epochs: int,
    every: int | None,
    on_batch: Callable[[], None],
    pieces: int = 1,
) -> Iterator[Epoch]:
    """Fit the head of a network once after each of so many passes over the training images; a row for each.

    every: passes between validations, None for none.
    """
    for epoch in range(epochs):
        started = time.perf_counter()
        regression.add(network, loaders.train, on_batch, pieces)
        loss, accuracy = regression.fit(last_layer(network))
        evaluation = every is not None and is_due(epoch, epochs, every)
        valid = regression.scored(network, loaders.valid) if evaluation else (None, None)
        yield Epoch(0, epoch, loss, valid[0], accuracy, valid[1], 0.0, round(time.perf_counter() - started, 3))


def _fitted(features: Tensor, targets: Tensor, classes: int, decay: float, loss: Loss) -> tuple[Tensor, Tensor]:
    """Weight (classes, d), bias (classes,) that minimise the loss plus half of decay times the squared weights."""
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
