"""What a body that does not learn makes of every image, computed once for a head that trains alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from fastai.callback.core import Callback

from ensemble.models.network import Features
from ensemble.recipe.schema import Recipe, Stage
from ensemble.training.loaders import BatchLoader, Lookup
from ensemble.training.lookup import Blank, sent
from ensemble.training.seeds import random_states, restore_random_states


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
        self.seen: dict[BatchLoader, Lookup] = {}

    def before_train(self) -> None:
        """Training images."""
        self._leave_images_out()

    def before_validate(self) -> None:
        """Validation images."""
        self._leave_images_out()

    def before_batch(self) -> None:
        """Features for images."""
        features = self.known[self.dl]
        self.learn.xb = (features[sent(self.dl.at, features.device)],)

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
            loader.lookup = replace(loader.lookup, images=Blank(device=loader.lookup.images.device))

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
