"""Adam as fastai means it, in one pass over the memory."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from fastai.optimizer import Optimizer
from torch import Tensor, nn
from torch.optim.adamw import adamw

FUSED = ("cpu", "cuda", "mps", "xpu")


class FusedAdam(Optimizer):  # type: ignore[misc]
    """fastai's `Adam` (decoupled weight decay; Kingma & Ba 2015, Loshchilov & Hutter 2019) by torch's fused kernel.

    The same formula and defaults, and the same hyper-parameters for schedules (lr, mom, sqr_mom, eps, wd); where
    fastai makes a dozen passes a parameter in Python, this makes one over each group.
    """

    def __init__(self, params: Any, lr: float, mom: float = 0.9, sqr_mom: float = 0.99, eps: float = 1e-5) -> None:
        super().__init__(params, [], lr=lr, mom=mom, sqr_mom=sqr_mom, eps=eps, wd=0.0)

    def zero_grad(self) -> None:
        """Drop the gradients, rather than write zeros into them."""
        for parameter, *_ in self.all_params():
            parameter.grad = None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step for every parameter that has a gradient."""
        for group, hyper in zip(self.param_lists, self.hypers, strict=True):
            for decays, parameters in self._by_decay(group).items():
                self._update(parameters, hyper, hyper["wd"] if decays else 0.0)

    def _by_decay(self, group: Any) -> dict[bool, list[nn.Parameter]]:
        found: dict[bool, list[nn.Parameter]] = defaultdict(list)
        for parameter in group:
            if parameter.grad is not None:
                found[self.state[parameter].get("do_wd", True)].append(parameter)
        return found

    def _update(self, parameters: list[nn.Parameter], hyper: dict[str, float], decay: float) -> None:
        states = [self._state(parameter) for parameter in parameters]
        grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
        fused = parameters[0].device.type in FUSED
        adamw(
            list[Tensor](parameters),
            grads,
            [state["grad_avg"] for state in states],
            [state["sqr_avg"] for state in states],
            [],
            [state["step"] for state in states],
            fused=fused,
            foreach=False if fused else None,
            amsgrad=False,
            beta1=hyper["mom"],
            beta2=hyper["sqr_mom"],
            lr=float(hyper["lr"]),
            weight_decay=decay,
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
