"""fastai's optimizers in one pass over the memory, by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from fastai.optimizer import Optimizer
from torch import Tensor, nn
from torch.optim.adam import adam as adam_kernel
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from ensemble.core.registry import Registry
from ensemble.models.layers import is_scale_free
from ensemble.recipe.schema import Recipe

FUSED = ("cpu", "cuda", "mps", "xpu")

optimizers: Registry[Callable[[Recipe], Callable[..., Optimizer]]] = Registry("optimizer")


class Fused(Optimizer):  # type: ignore[misc]
    """A fastai optimizer (groups, scheduled hyper-parameters, decoupled weight decay) over torch's fused kernels.

    Where fastai makes a dozen passes a parameter in Python, this makes one over each group.
    """

    def zero_grad(self) -> None:
        """Drop the gradients, rather than write zeros into them."""
        for parameter, *_ in self.all_params():
            parameter.grad = None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step for every parameter that has a gradient."""
        for group, hyper in zip(self.param_lists, self.hypers, strict=True):
            for decays, parameters in self._by_decay(group).items():
                grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
                self.update(parameters, grads, hyper, decays)

    def update(
        self, parameters: list[nn.Parameter], grads: list[Tensor], hyper: dict[str, float], decays: bool
    ) -> None:
        """One step. decays: False for biases and what belongs to norms, which fastai does not decay."""
        raise NotImplementedError

    def _by_decay(self, group: Any) -> dict[bool, list[nn.Parameter]]:
        found: dict[bool, list[nn.Parameter]] = defaultdict(list)
        for parameter in group:
            if parameter.grad is not None:
                found[self.state[parameter].get("do_wd", True)].append(parameter)
        return found


class FusedAdam(Fused):
    """fastai's `Adam` (Kingma & Ba 2015, Loshchilov & Hutter 2019): lr, mom, sqr_mom, eps, wd."""

    kernel = staticmethod(adamw)

    def __init__(self, params: Any, lr: float, mom: float = 0.9, sqr_mom: float = 0.99, eps: float = 1e-5) -> None:
        super().__init__(params, [], lr=lr, mom=mom, sqr_mom=sqr_mom, eps=eps, wd=0.0)

    def update(
        self, parameters: list[nn.Parameter], grads: list[Tensor], hyper: dict[str, float], decays: bool
    ) -> None:
        states = [self._state(parameter) for parameter in parameters]
        fused = parameters[0].device.type in FUSED
        averages = [state["grad_avg"] for state in states], [state["sqr_avg"] for state in states]
        turned, turned_grads, means, squares = _as_they_lie(parameters, grads, *averages)
        self.kernel(
            turned,
            turned_grads,
            means,
            squares,
            [],
            [state["step"] for state in states],
            fused=fused,
            foreach=False if fused else None,
            amsgrad=False,
            beta1=hyper["mom"],
            beta2=hyper["sqr_mom"],
            lr=float(hyper["lr"]),
            weight_decay=hyper["wd"] if decays else 0.0,
            eps=hyper["eps"],
            maximize=False,
        )

    def _state(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if "step" not in state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["grad_avg"] = torch.zeros_like(parameter)
            state["sqr_avg"] = torch.zeros_like(parameter)
        return state


class FusedAdamL2(FusedAdam):
    """The same with weight decay as a part of the gradient, as torch's `Adam` has it (Kingma & Ba 2015)."""

    kernel = staticmethod(adam_kernel)


class FusedSGD(Fused):
    """Gradient descent with Nesterov momentum (Sutskever et al. 2013), decay decoupled as in fastai: lr, mom, wd.

    bias_lr: how many times the rate biases and what belongs to norms have.
    """

    def __init__(self, params: Any, lr: float, mom: float = 0.9, bias_lr: float = 1.0) -> None:
        super().__init__(params, [], lr=lr, mom=mom, wd=0.0)
        self.bias_lr = bias_lr

    def update(
        self, parameters: list[nn.Parameter], grads: list[Tensor], hyper: dict[str, float], decays: bool
    ) -> None:
        rate = float(hyper["lr"])
        if decays and hyper["wd"]:
            torch._foreach_mul_(list[Tensor](parameters), 1 - rate * hyper["wd"])
        fused = parameters[0].device.type in FUSED
        # from zeros, torch's nesterov would take the first step with the gradient as it is: so does this
        averages = [self._average(parameter) for parameter in parameters]
        turned, turned_grads, means = _as_they_lie(parameters, grads, averages)
        sgd(
            turned,
            turned_grads,
            list[Tensor | None](means),
            fused=fused,
            foreach=False if fused else None,
            weight_decay=0.0,
            momentum=hyper["mom"],
            lr=rate if decays else rate * self.bias_lr,
            dampening=0.0,
            nesterov=hyper["mom"] > 0,
            maximize=False,
        )

    def _average(self, parameter: nn.Parameter) -> Tensor:
        state: dict[str, Tensor] = self.state[parameter]
        if "grad_avg" not in state:
            state["grad_avg"] = torch.zeros_like(parameter)
        return state["grad_avg"]


class Muon(FusedSGD):
    """Steps of filters made orthogonal (Jordan et al. 2024), gradient descent as `FusedSGD` for all else.

    The filters are those that a batch norm follows and that mix channels, each layer as a matrix (filters, inputs).
    Their momentum is 0.6 by Nesterov, their matrix keeps the length sqrt(filters), they do not decay, and
    `filter_lr` times the rate is thus the share by which they change: 0.24 from scratch, as in the authors'
    "airbench94_muon", where three Newton-Schulz iterations in bfloat16 are enough.
    """

    momentum, steps, coefficients = 0.6, 3, (3.4445, -4.7750, 2.0315)

    def __init__(
        self, params: Any, lr: float, mom: float = 0.9, bias_lr: float = 1.0, filter_lr: float = 1.0
    ) -> None:
        super().__init__(params, lr=lr, mom=mom, bias_lr=bias_lr)
        self.filter_lr = filter_lr

    def update(
        self, parameters: list[nn.Parameter], grads: list[Tensor], hyper: dict[str, float], decays: bool
    ) -> None:
        # importing it takes half a second, which other optimizers need not wait for
        from timm.optim.muon import zeropower_via_newtonschulz

        pairs = list(zip(parameters, grads, strict=True))
        filters = [pair for pair in pairs if _is_filter(pair[0])]
        others = [pair for pair in pairs if not _is_filter(pair[0])]
        if others:
            super().update([one for one, _ in others], [grad for _, grad in others], hyper, decays)
        for parameter, grad in filters:
            average = self._average(parameter).mul_(self.momentum).add_(grad)
            ahead = grad.add(average, alpha=self.momentum).flatten(1)
            step = zeropower_via_newtonschulz(ahead, self.steps, [self.coefficients])
            parameter.mul_(len(parameter) ** 0.5 / parameter.norm())
            parameter.add_(step.view_as(parameter), alpha=-self.filter_lr * float(hyper["lr"]))


def _as_they_lie(parameters: Sequence[Tensor], *others: Sequence[Tensor]) -> list[list[Tensor]]:
    """Parameters and what belongs to each; filters whose channels lie last are turned so that they are contiguous.

    They are the same numbers in the same places. torch's fused kernels for processors copy all else back and forth.
    """
    if parameters[0].is_cuda:
        return [list(column) for column in (parameters, *others)]
    turned = []
    for row in zip(parameters, *others, strict=True):
        last = all(one.ndim == 4 and one.is_contiguous(memory_format=torch.channels_last) for one in row)
        turned.append([one.permute(0, 2, 3, 1) for one in row] if last else list(row))
    return [list(column) for column in zip(*turned, strict=True)]


def _is_filter(parameter: nn.Parameter) -> bool:
    """Not those of a depthwise convolution, which are vectors."""
    return is_scale_free(parameter) and parameter.shape[1] > 1


def optimizer(recipe: Recipe) -> Callable[..., Optimizer]:
    """What fastai's Learner takes as `opt_func`. Raises RecipeError for a name that does not exist."""
    return optimizers.get(recipe.optimizer)(recipe)


@optimizers.register("adam")
def adam(recipe: Recipe) -> Callable[..., Optimizer]:
    """fastai's Adam with decoupled weight decay."""
    return FusedAdam if recipe.momentum is None else partial(FusedAdam, mom=recipe.momentum)


@optimizers.register("adamw")
def decoupled_adam(recipe: Recipe) -> Callable[..., Optimizer]:
    """The same by its other name: fastai's Adam decouples the decay."""
    return adam(recipe)


@optimizers.register("adam-l2")
def coupled_adam(recipe: Recipe) -> Callable[..., Optimizer]:
    """Adam whose weight decay is a part of the gradient, as in torch and Keras."""
    return FusedAdamL2 if recipe.momentum is None else partial(FusedAdamL2, mom=recipe.momentum)


@optimizers.register("sgd")
def nesterov(recipe: Recipe) -> Callable[..., Optimizer]:
    """SGD with Nesterov momentum, 0.9 unless `momentum` says otherwise, and `bias_lr` times the rate for biases."""
    return partial(FusedSGD, mom=0.9 if recipe.momentum is None else recipe.momentum, bias_lr=recipe.bias_lr)


@optimizers.register("muon")
def muon(recipe: Recipe) -> Callable[..., Optimizer]:
    """Orthogonal steps for filters that a batch norm follows, `filter_lr` times the rate; SGD for the rest."""
    momentum = 0.9 if recipe.momentum is None else recipe.momentum
    return partial(Muon, mom=momentum, bias_lr=recipe.bias_lr, filter_lr=recipe.filter_lr)
