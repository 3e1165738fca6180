"""Weight averaging over the steps or epochs of training, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from fastai.callback.core import Callback
from fastai.learner import Learner
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from ensemble.core.registry import Registry
from ensemble.models.layers import norms
from ensemble.recipe.schema import ResolvedRecipe
from ensemble.training.engine.checkpoint import Tensors, copied_state


class Average(Callback):  # type: ignore[misc]
    """Base class of weight averages; by itself it keeps the weights of the last step.

    epochs: of the stage.
    """

    def __init__(self, recipe: ResolvedRecipe, epochs: int) -> None:
        super().__init__()
        self.recipe, self.epochs = recipe, epochs

    def state(self) -> Tensors:
        """State to save in a checkpoint."""
        return {}

    def restore(self, state: Tensors) -> None:
        """Restore the result of `state`."""

    def finish(self, learner: Learner, seed: Callable[[str], None]) -> dict[str, Any]:
        """Set the network's final weights after the last epoch; returns decisions for run.json.

        seed: called with a purpose, seeds all generators.
        """
        return {}

    @property
    def first(self) -> int:
        """The first averaged epoch: the last `average_epochs` are averaged, by default a quarter of all."""
        return self.epochs - min(self.epochs, self.recipe.average_epochs or max(1, self.epochs // 4))


averages: Registry[Callable[[ResolvedRecipe, int], Average]] = Registry("average of the weights")
averages.register("none", description="The weights of the last step.")(Average)

_EXCLUDES = {"keep": "keep: best keeps the weights of one epoch, average: {name} those of many; leave one out"}


@averages.register("lookahead")
class Lookahead(Average):
    """Lookahead (Zhang et al. 2019): every five steps the weights are interpolated with those of five steps before.

    The share of the earlier weights is 0.95^5 times the cube of the progress (Jordan 2024), from 0 to 77 %.
    Batch-norm statistics are interpolated too. It also runs at the end of each epoch, so that checkpoints need no
    extra state.
    """

    every, max_kept = 5, 0.95**5

    def before_fit(self) -> None:
        self.steps, self.slow = 0, Tensors()

    def before_train(self) -> None:
        self.steps, self.slow = 0, copied_state(self.model)

    def after_batch(self) -> None:
        if self.training:
            self.steps += 1
            if self.steps % self.every == 0:
                self._interpolate_weights()

    def after_train(self) -> None:
        if self.steps % self.every:
            self._interpolate_weights()

    @torch.no_grad()
    def _interpolate_weights(self) -> None:
        kept = self.max_kept * float(self.pct_train) ** 3
        for name, fast in self.model.state_dict().items():
            if fast.is_floating_point():
                slow = self.slow[name]
                slow.lerp_(fast, 1 - kept)
                fast.copy_(slow)


class _Running(Average):
    """Running mean of network states.  count: number of averaged states."""

    def __init__(self, recipe: ResolvedRecipe, epochs: int) -> None:
        super().__init__(recipe, epochs)
        self.count, self.mean = 0, Tensors()

    def state(self) -> Tensors:
        """The mean by name, and the count under the empty name."""
        return {**self.mean, "": torch.tensor(self.count)} if self.mean else {}

    def restore(self, state: Tensors) -> None:
        """Restore the result of `state`."""
        self.mean = {name: value for name, value in state.items() if name}
        self.count = int(state[""]) if state else 0

    def _add(self, share: float) -> None:
        """Interpolate the mean towards the network's state by `share`; the first call copies the state."""
        self.count += 1
        current = self.model.state_dict()
        if not self.mean:
            self.mean = copied_state(self.model)
        for name, value in self.mean.items():
            self.mean[name] = value = value.to(current[name].device)  # tensors of a checkpoint are on the CPU
            _interpolate(value, current[name], share)


@averages.register("ema", keys=("average_decay",), excludes=_EXCLUDES)
class Exponential(_Running):
    """Exponential moving average over the steps of weights and batch-norm statistics (Polyak & Juditsky 1992).

    The decay is `average_decay`, but at most (1 + t) / (10 + t) after t steps, as in TensorFlow.
    Validation uses the average.
    """

    def __init__(self, recipe: ResolvedRecipe, epochs: int) -> None:
        super().__init__(recipe, epochs)
        self.own_weights = Tensors()

    def after_batch(self) -> None:
        if self.training:
            steps = self.count + 1
            self._add(1 - min(self.recipe.average_decay, (1 + steps) / (10 + steps)))

    def before_validate(self) -> None:
        self.own_weights = {}
        if self.mean:
            self.own_weights = copied_state(self.model)
            self.model.load_state_dict(self.mean)

    def after_validate(self) -> None:
        if self.own_weights:
            self.model.load_state_dict(self.own_weights)
            self.own_weights = {}

    def finish(self, learner: Learner, seed: Callable[[str], None]) -> dict[str, Any]:
        """Load the average into the network."""
        if self.mean:
            learner.model.load_state_dict(self.mean)
        return {}


@averages.register("swa", keys=("average_epochs",), excludes=_EXCLUDES)
class Stochastic(_Running):
    """Stochastic weight averaging: mean of the weights after each of the last epochs (Izmailov et al. 2018).

    Batch-norm statistics are then recomputed in one pass over the training batches; frozen ones are kept.
    """

    def after_train(self) -> None:
        if self.epoch >= self.first:
            self._add(1 / (self.count + 1))

    def finish(self, learner: Learner, seed: Callable[[str], None]) -> dict[str, Any]:
        """Load the mean into the network and recompute batch-norm statistics."""
        if not self.mean:
            return {}
        learner.model.load_state_dict(self.mean)
        frozen = {norm: copied_state(norm) for norm in norms(learner.model) if _is_frozen(norm)}
        seed("norms")
        update_bn(learner.dls.train, learner.model, next(learner.model.parameters()).device)
        for norm, norm_state in frozen.items():
            norm.load_state_dict(norm_state)
        return {"swa": {"epochs": self.count}}


@averages.register("soup", keys=("average_epochs",), excludes=_EXCLUDES, chosen_on_valid="soup")
class Soup(Average):
    """Greedy soup of the weights after each of the last epochs (Wortsman et al. 2022).

    In order of validation accuracy, weights are added to the mean if its validation accuracy does not decrease.
    """

    def __init__(self, recipe: ResolvedRecipe, epochs: int) -> None:
        super().__init__(recipe, epochs)
        self.epoch_weights: dict[int, Tensors] = {}

    def state(self) -> Tensors:
        """Weights of each epoch by `<epoch>/<name>`."""
        return {
            f"{epoch}/{name}": value for epoch, state in self.epoch_weights.items() for name, value in state.items()
        }

    def restore(self, state: Tensors) -> None:
        """Restore the result of `state`."""
        self.epoch_weights = {}
        for key, value in state.items():
            epoch, name = key.split("/", 1)
            self.epoch_weights.setdefault(int(epoch), {})[name] = value

    def after_train(self) -> None:
        if self.epoch >= self.first:
            self.epoch_weights[self.epoch] = copied_state(self.model)

    def finish(self, learner: Learner, seed: Callable[[str], None]) -> dict[str, Any]:
        """Load the soup into the network."""

        def score(state: Tensors) -> float:
            learner.model.load_state_dict(state)
            return valid_accuracy(learner)

        scores = {epoch: score(state) for epoch, state in self.epoch_weights.items()}
        order = sorted(scores, key=lambda epoch: (-scores[epoch], -epoch))
        if not order:
            return {}
        selected, best = order[:1], scores[order[0]]
        for epoch in order[1:]:
            accuracy = score(_mean(self.epoch_weights[soup_epoch] for soup_epoch in (*selected, epoch)))
            if accuracy >= best:
                selected, best = [*selected, epoch], accuracy
        learner.model.load_state_dict(_mean(self.epoch_weights[soup_epoch] for soup_epoch in selected))
        return {"soup": {"epochs": sorted(selected), "of": sorted(scores), "valid_accuracy": best}}


def _is_frozen(norm: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in norm.parameters())


def _interpolate(mean: Tensor, value: Tensor, share: float) -> None:
    """Interpolate `mean` in place towards `value` by `share`; integer counters are copied."""
    if mean.is_floating_point():
        mean.lerp_(value.detach(), share)
    else:
        mean.copy_(value)


def _mean(states: Iterable[Tensors]) -> Tensors:
    """Arithmetic mean of states; integer counters are those of the last."""
    mean: Tensors = {}
    for count, state in enumerate(states, 1):
        mean = mean or {name: value.clone() for name, value in state.items()}
        for name, value in mean.items():
            _interpolate(value, state[name], 1 / count)
    return mean


@torch.no_grad()
def valid_accuracy(learner: Learner) -> float:
    """Validation accuracy of the network."""
    learner.model.eval()
    correct, count = 0, 0
    for x, y in learner.dls.valid:
        labels = y.argmax(1) if y.ndim == 2 else y
        correct += int((learner.model(x).argmax(1) == labels).sum())
        count += len(labels)
    return correct / count
