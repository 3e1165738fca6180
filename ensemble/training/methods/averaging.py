"""Averages of the weights over the steps or epochs of training, by name."""

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
from ensemble.recipe.schema import Recipe
from ensemble.training.engine.checkpoint import Tensors, copied_state


class Average(Callback):  # type: ignore[misc]
    """Weights as the last step left them, and what every average of weights has.

    epochs: of the stage that it follows.
    """

    def __init__(self, recipe: Recipe, epochs: int) -> None:
        super().__init__()
        self.recipe, self.epochs = recipe, epochs

    def state(self) -> Tensors:
        """What a resumed training must bring along."""
        return {}

    def restore(self, state: Tensors) -> None:
        """The opposite of `state`."""

    def finish(self, learner: Learner, seed: Callable[[str], None]) -> dict[str, Any]:
        """Give the network its final weights, after the last epoch, and say what was decided.

        seed: seeds everything for a purpose.
        """
        return {}

    @property
    def first(self) -> int:
        """The first epoch whose end counts, for averages over epochs: a quarter of them unless the recipe says."""
        return self.epochs - min(self.epochs, self.recipe.average_epochs or max(1, self.epochs // 4))


averages: Registry[Callable[[Recipe, int], Average]] = Registry("average of the weights")
averages.register("none")(Average)


@averages.register("lookahead")
class Lookahead(Average):
    """Every five steps the weights move to between where they were then and where they are (Zhang et al. 2019).

    They go all the way at first and 23 % of it at the end: the share kept is 0.95^5 times the cube of the progress
    (Jordan 2024). Batch-norm statistics go along. It also happens at the end of each epoch, so that then nothing
    is left to be saved.
    """

    every, most = 5, 0.95**5

    def before_fit(self) -> None:
        self.steps, self.slow = 0, Tensors()

    def before_train(self) -> None:
        self.steps, self.slow = 0, copied_state(self.model)

    def after_batch(self) -> None:
        if self.training:
            self.steps += 1
            if self.steps % self.every == 0:
                self._move()

    def after_train(self) -> None:
        if self.steps % self.every:
            self._move()

    @torch.no_grad()
    def _move(self) -> None:
        kept = self.most * float(self.pct_train) ** 3
        for name, fast in self.model.state_dict().items():
            if fast.is_floating_point():
                slow = self.slow[name]
                slow.lerp_(fast, 1 - kept)
                fast.copy_(slow)


class _Running(Average):
    """A mean of states that is updated as training goes. count: of what is in it."""

    def __init__(self, recipe: Recipe, epochs: int) -> None:
        super().__init__(recipe, epochs)
        self.count, self.mean = 0, Tensors()

    def state(self) -> Tensors:
        """The mean, and the count under an empty name."""
        return {**self.mean, "": torch.tensor(self.count)} if self.mean else {}

    def restore(self, state: Tensors) -> None:
        """The opposite of `state`."""
        self.mean = {name: value for name, value in state.items() if name}
        self.count = int(state[""]) if state else 0

    def _add(self, share: float) -> None:
        """Move the mean towards the network by a share of the way; all the way from nothing."""
        self.count += 1
        now = self.model.state_dict()
        if not self.mean:
            self.mean = copied_state(self.model)
        for name, value in self.mean.items():
            self.mean[name] = value = value.to(now[name].device)  # a checkpoint's lie on the CPU
            _approach(value, now[name], share)


@averages.register("ema")
class Exponential(_Running):
    """The exponential moving average over the steps, of weights and batch-norm statistics (Polyak & Juditsky 1992).

    A step keeps `average_decay` of it, less at first: (1 + t) / (10 + t) at most after t steps, as in TensorFlow.
    Validation looks at the average.
    """

    def __init__(self, recipe: Recipe, epochs: int) -> None:
        super().__init__(recipe, epochs)
        self.own = Tensors()

    def after_batch(self) -> None:
        if self.training:
            steps = self.count + 1
            self._add(1 - min(self.recipe.average_decay, (1 + steps) / (10 + steps)))

    def before_validate(self) -> None:
        self.own = {}
        if self.mean:
            self.own = copied_state(self.model)
            self.model.load_state_dict(self.mean)

    def after_validate(self) -> None:
        if self.own:
            self.model.load_state_dict(self.own)
            self.own = {}

    def finish(self, learner: Learner, seed: Callable[[str], None]) -> dict[str, Any]:
        """The average is the network."""
        if self.mean:
            learner.model.load_state_dict(self.mean)
        return {}


@averages.register("swa")
class Stochastic(_Running):
    """The plain mean of the weights at the ends of the last epochs (Izmailov et al. 2018).

    Batch-norm statistics are then taken anew, in one pass over the training batches; those that are frozen stay.
    """

    def after_train(self) -> None:
        if self.epoch >= self.first:
            self._add(1 / (self.count + 1))

    def finish(self, learner: Learner, seed: Callable[[str], None]) -> dict[str, Any]:
        """The mean is the network, with statistics of its own."""
        if not self.mean:
            return {}
        learner.model.load_state_dict(self.mean)
        still = {norm: copied_state(norm) for norm in norms(learner.model) if _is_frozen(norm)}
        seed("norms")
        update_bn(learner.dls.train, learner.model, next(learner.model.parameters()).device)
        for norm, before in still.items():
            norm.load_state_dict(before)
        return {"swa": {"epochs": self.count}}


@averages.register("soup")
class Soup(Average):
    """The greedy soup of the weights at the ends of the last epochs (Wortsman et al. 2022).

    From the best on the validation rows on, weights join the mean where it does not get worse by them.
    """

    def __init__(self, recipe: Recipe, epochs: int) -> None:
        super().__init__(recipe, epochs)
        self.kept: dict[int, Tensors] = {}

    def state(self) -> Tensors:
        """The weights of each epoch by `<epoch>/<name>`."""
        return {f"{epoch}/{name}": value for epoch, state in self.kept.items() for name, value in state.items()}

    def restore(self, state: Tensors) -> None:
        """The opposite of `state`."""
        self.kept = {}
        for key, value in state.items():
            epoch, name = key.split("/", 1)
            self.kept.setdefault(int(epoch), {})[name] = value

    def after_train(self) -> None:
        if self.epoch >= self.first:
            self.kept[self.epoch] = copied_state(self.model)

    def finish(self, learner: Learner, seed: Callable[[str], None]) -> dict[str, Any]:
        """The soup is the network."""

        def score(state: Tensors) -> float:
            learner.model.load_state_dict(state)
            return _accuracy(learner)

        scores = {epoch: score(state) for epoch, state in self.kept.items()}
        order = sorted(scores, key=lambda epoch: (-scores[epoch], -epoch))
        if not order:
            return {}
        taken, best = order[:1], scores[order[0]]
        for epoch in order[1:]:
            tried = score(_mean(self.kept[one] for one in (*taken, epoch)))
            if tried >= best:
                taken, best = [*taken, epoch], tried
        learner.model.load_state_dict(_mean(self.kept[one] for one in taken))
        return {"soup": {"epochs": sorted(taken), "of": sorted(scores), "valid_accuracy": best}}


def _is_frozen(norm: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in norm.parameters())


def _approach(mean: Tensor, value: Tensor, share: float) -> None:
    """Move `mean` towards `value` by a share of the way; counters are copied."""
    if mean.is_floating_point():
        mean.lerp_(value.detach(), share)
    else:
        mean.copy_(value)


def _mean(states: Iterable[Tensors]) -> Tensors:
    """The plain mean of states; counters are those of the last."""
    mean: Tensors = {}
    for count, state in enumerate(states, 1):
        mean = mean or {name: value.clone() for name, value in state.items()}
        for name, value in mean.items():
            _approach(value, state[name], 1 / count)
    return mean


@torch.no_grad()
def _accuracy(learner: Learner) -> float:
    """The share of the validation rows that the network gets right."""
    learner.model.eval()
    correct, count = 0, 0
    for x, y in learner.dls.valid:
        hard = y.argmax(1) if y.ndim == 2 else y
        correct += int((learner.model(x).argmax(1) == hard).sum())
        count += len(hard)
    return correct / count
