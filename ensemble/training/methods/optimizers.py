"""fastai optimizers on torch's fused kernels, by name."""

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
from ensemble.recipe.schema import ResolvedRecipe

FUSED = ("cpu", "cuda", "mps", "xpu")

optimizers: Registry[Callable[[ResolvedRecipe], Callable[..., Optimizer]]] = Registry("optimizer")


class Fused(Optimizer):  # type: ignore[misc]
    """A fastai optimizer (groups, scheduled hyper-parameters, decoupled weight decay) on torch's fused kernels.

    It makes one pass over each group, while fastai makes a dozen passes over each parameter in Python.
    """

    def zero_grad(self) -> None:
        """Set the gradients to None instead of zero."""
        for parameter, *_ in self.all_params():
            parameter.grad = None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update every parameter that has a gradient."""
        for group, hyper in zip(self.param_lists, self.hypers, strict=True):
            for decays, parameters in self._by_decay(group).items():
                grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
                self.update(parameters, grads, hyper, decays)

    def update(
        self, parameters: list[nn.Parameter], grads: list[Tensor], hyper: dict[str, float], decays: bool
    ) -> None:
        """Take one step.  decays: False for biases and parameters of norms, which fastai does not decay."""
        raise NotImplementedError

    def _by_decay(self, group: Any) -> dict[bool, list[nn.Parameter]]:
        groups: dict[bool, list[nn.Parameter]] = defaultdict(list)
        for parameter in group:
            if parameter.grad is not None:
                groups[self.state[parameter].get("do_wd", True)].append(parameter)
        return groups


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
        views, grad_views, means, squares = channels_last_views(parameters, grads, *averages)
        self.kernel(
            views,
            grad_views,
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
    """FusedAdam with weight decay added to the gradient, as in torch's `Adam` (Kingma & Ba 2015)."""

    kernel = staticmethod(adam_kernel)


class FusedSGD(Fused):
    """SGD with Nesterov momentum (Sutskever et al. 2013), decoupled weight decay as in fastai: lr, mom, wd.

    bias_lr: factor of the rate for biases and parameters of norms.
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
        # as in torch, with a zero average the first Nesterov step uses the plain gradient
        averages = [self._average(parameter) for parameter in parameters]
        views, grad_views, means = channels_last_views(parameters, grads, averages)
        sgd(
            views,
            grad_views,
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
    """Muon: orthogonalised steps for filters (Jordan et al. 2024), `FusedSGD` for all other parameters.

    The filters are those that are followed by a batch norm and mix channels, as a matrix (filters, inputs) per
    layer. They have Nesterov momentum 0.6 and no weight decay, and the norm of their matrix is kept at
    sqrt(filters), so `filter_lr` times the rate is their relative change: 0.24 from scratch, as in the authors'
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
        # the import takes half a second, which other optimizers do not need
        from timm.optim.muon import zeropower_via_newtonschulz

        pairs = list(zip(parameters, grads, strict=True))
        filters = [pair for pair in pairs if _is_filter(pair[0])]
        others = [pair for pair in pairs if not _is_filter(pair[0])]
        if others:
            super().update([weight for weight, _ in others], [grad for _, grad in others], hyper, decays)
        for parameter, grad in filters:
            average = self._average(parameter).mul_(self.momentum).add_(grad)
            nesterov_grad = grad.add(average, alpha=self.momentum).flatten(1)
            step = zeropower_via_newtonschulz(nesterov_grad, self.steps, [self.coefficients])
            parameter.mul_(len(parameter) ** 0.5 / parameter.norm())
            parameter.add_(step.view_as(parameter), alpha=-self.filter_lr * float(hyper["lr"]))


def channels_last_views(parameters: Sequence[Tensor], *states: Sequence[Tensor]) -> list[list[Tensor]]:
    """Parameters and their state tensors, with channels-last filters permuted to be contiguous.

    The permuted tensors are views of the same memory; torch's fused CPU kernels copy non-contiguous tensors.
    """
    if parameters[0].is_cuda:
        return [list(column) for column in (parameters, *states)]
    views = []
    for row in zip(parameters, *states, strict=True):
        channels_last = all(
            tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last) for tensor in row
        )
        views.append([tensor.permute(0, 2, 3, 1) for tensor in row] if channels_last else list(row))
    return [list(column) for column in zip(*views, strict=True)]


def _is_filter(parameter: nn.Parameter) -> bool:
    """Whether Muon applies: a scale-free filter, not of a depthwise convolution, whose filters are vectors."""
    return is_scale_free(parameter) and parameter.shape[1] > 1


def optimizer(recipe: ResolvedRecipe) -> Callable[..., Optimizer]:
    """The `opt_func` for fastai's Learner. Raises RecipeError for an unknown name."""
    return optimizers.get(recipe.optimizer)(recipe)


@optimizers.register("adam", keys=("momentum",))
def adam(recipe: ResolvedRecipe) -> Callable[..., Optimizer]:
    """fastai's Adam with decoupled weight decay."""
    return FusedAdam if recipe.momentum is None else partial(FusedAdam, mom=recipe.momentum)


@optimizers.register("adamw", keys=("momentum",))
def decoupled_adam(recipe: ResolvedRecipe) -> Callable[..., Optimizer]:
    """Alias of `adam`, as fastai's Adam has decoupled weight decay."""
    return adam(recipe)


@optimizers.register("adam-l2", keys=("momentum",))
def coupled_adam(recipe: ResolvedRecipe) -> Callable[..., Optimizer]:
    """Adam with weight decay added to the gradient, as in torch and Keras."""
    return FusedAdamL2 if recipe.momentum is None else partial(FusedAdamL2, mom=recipe.momentum)


@optimizers.register("sgd", keys=("momentum", "bias_lr"))
def nesterov(recipe: ResolvedRecipe) -> Callable[..., Optimizer]:
    """SGD with Nesterov momentum, `momentum` or 0.9, and `bias_lr` times the rate for biases."""
    return partial(FusedSGD, mom=0.9 if recipe.momentum is None else recipe.momentum, bias_lr=recipe.bias_lr)


@optimizers.register("muon", keys=("momentum", "bias_lr", "filter_lr"))
def muon(recipe: ResolvedRecipe) -> Callable[..., Optimizer]:
    """Muon for filters followed by a batch norm, with `filter_lr` times the rate; SGD for the rest."""
    momentum = 0.9 if recipe.momentum is None else recipe.momentum
    return partial(Muon, mom=momentum, bias_lr=recipe.bias_lr, filter_lr=recipe.filter_lr)
