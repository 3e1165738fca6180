"""Averages of weights: exponential, stochastic, soup, lookahead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fastai.learner import Learner
from helpers.digit_loaders import digit_loaders
from helpers.recipes import small_recipe, speednet_recipe
from torch import Tensor, nn

from ensemble.data.digits import digits_dataset
from ensemble.data.image_cache import open_images
from ensemble.data.preprocess import Preprocess
from ensemble.inference.image_batches import CachedImages
from ensemble.models.network import build_network
from ensemble.training.engine.checkpoint import seed_everything
from ensemble.training.engine.loaders import data_loaders
from ensemble.training.methods.averaging import Exponential, Lookahead, Soup, Stochastic

pytestmark = pytest.mark.slow


def trained(tmp_path: Path, average: Any, epochs: int = 4) -> tuple[list[dict[str, Tensor]], Any]:
    """The states after every step (or epoch, for averages over epochs) of a small training, and its learner."""
    from fastai.callback.core import Callback
    from fastai.learner import Learner

    from ensemble.training.engine.checkpoint import copied_state

    data = digits_dataset()
    (squares,) = open_images(data, ["train", "valid"], [Preprocess(16, "squash")], tmp_path)
    seed_everything(0, "loaders")
    mean = (0.5, 0.5, 0.5)
    given_ = small_recipe(batch_size=200, filters=(4, 8), batch_norm=True)
    dls = data_loaders(given_, data, CachedImages(squares), mean, mean, device=torch.device("cpu"))
    network = build_network(given_, 10)
    states: list[dict[str, Tensor]] = []
    by_step = isinstance(average, Exponential)

    class Watch(Callback):  # type: ignore[misc]
        order = 99

        def after_batch(self) -> None:
            if self.training and by_step:
                states.append(copied_state(self.model))

        def after_train(self) -> None:
            if not by_step:
                states.append(copied_state(self.model))

    learner = Learner(dls, network, loss_func=nn.CrossEntropyLoss(), path=tmp_path, cbs=[average, Watch()])
    with learner.no_bar(), learner.no_logging():
        learner.fit(epochs, 1e-2)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in states[-1].items())
    return states, learner


def no_seed(purpose: str) -> None:
    """Nothing is drawn."""


def test_exponential_average_is_its_formula(tmp_path: Path) -> None:
    average = Exponential(small_recipe(average="ema", average_decay=0.9), 4)
    states, learner = trained(tmp_path, average)
    expected = {name: value.double() for name, value in states[0].items()}
    for step, state in enumerate(states, 1):
        kept = min(0.9, (1 + step) / (10 + step))
        expected = {name: kept * value + (1 - kept) * state[name] for name, value in expected.items()}
    restored = Exponential(small_recipe(average="ema"), 4)
    restored.restore(average.state())
    restored.finish(learner, no_seed)
    for name, value in learner.model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], atol=1e-5, rtol=1e-4)


def test_stochastic_averaging_is_the_mean_of_the_last_epochs(tmp_path: Path) -> None:
    average = Stochastic(small_recipe(average="swa", average_epochs=3), 4)
    states, learner = trained(tmp_path, average)
    assert average.finish(learner, no_seed) == {"swa": {"epochs": 3}}
    last = states[-3:]
    for name, parameter in learner.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), sum(state[name] for state in last) / 3, atol=1e-6, rtol=1e-4)
    x = torch.cat([x.as_subclass(Tensor) for x, _ in learner.dls.train.new(shuffle=False, drop_last=True)])
    body, _ = learner.model.children()
    first = next(module for module in body.modules() if isinstance(module, nn.BatchNorm2d))
    seen: list[Tensor] = []
    handle = first.register_forward_hook(lambda module, args, out: seen.append(args[0].detach()))
    learner.model.eval()
    learner.model(x)
    handle.remove()
    torch.testing.assert_close(first.running_mean, seen[0].mean(dim=(0, 2, 3)), atol=0.02, rtol=0.05)


def test_soup_is_at_least_as_good_as_its_best_ingredient(tmp_path: Path) -> None:
    from ensemble.training.methods.averaging import valid_accuracy

    average = Soup(small_recipe(average="soup", average_epochs=3), 4)
    states, learner = trained(tmp_path, average)
    alone = []
    for state in states[-3:]:
        learner.model.load_state_dict(state)
        alone.append(valid_accuracy(learner))
    restored = Soup(small_recipe(average="soup", average_epochs=3), 4)
    restored.restore(average.state())
    output = restored.finish(learner, no_seed)["soup"]
    assert output["of"] == [1, 2, 3] and set(output["epochs"]) <= {1, 2, 3}
    assert valid_accuracy(learner) == output["valid_accuracy"] >= max(alone)


def test_lookahead_follows_its_formula(tmp_path: Path) -> None:
    dls, _ = digit_loaders(tmp_path)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
    seen: list[tuple[float, Tensor]] = []

    class Watched(Lookahead):
        def after_batch(self) -> None:
            if self.training:
                seen.append((float(self.pct_train), self.model[1].weight.detach().clone()))
            super().after_batch()
            if self.training:
                seen.append((float(self.pct_train), self.model[1].weight.detach().clone()))

    watched = Watched(speednet_recipe(), 1)
    learner = Learner(dls, network, loss_func=nn.CrossEntropyLoss(), path=tmp_path, cbs=[watched])
    slow = network[1].weight.detach().clone()
    with learner.no_bar(), learner.no_logging():
        learner.fit(1, 1e-3)
    for step in range(1, len(seen) // 2 + 1):
        (progress, fast), (_, after) = seen[2 * step - 2], seen[2 * step - 1]
        if step % 5 == 0:
            kept = 0.95**5 * progress**3
            slow = slow * kept + fast * (1 - kept)
            torch.testing.assert_close(after, slow)
        else:
            assert torch.equal(fast, after)
    assert torch.equal(watched.slow["1.weight"], network[1].weight)
