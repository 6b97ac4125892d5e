"""Adam as the MAF paper's code has it: epsilon inside the root."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer


class AdamInnerEpsilon(Optimizer):
    """θ ← θ − lr·m̂/√(v̂ + ε), with coupled L2 (gpapamak/maf, ml/step_strategies.py).

    Torch's Adam divides by √v̂ + ε. With ε = 1e-8 the difference is no detail: the root of ε, 1e-4, is what small
    gradients are divided by here. As in torch's fused Adam, a ``found_inf`` above zero makes a step do nothing.
    """

    found_inf: torch.Tensor | None = None

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "steps": 0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no caller of ours passes a closure
        """One update from the gradients that are there."""
        if self.found_inf is not None and self.found_inf:  # on a GPU the host waits here; torch's fused Adam does not
            return
        for group in self.param_groups:
            group["steps"] += 1
            parameters = [p for p in group["params"] if p.grad is not None]
            gradients = torch._foreach_add([p.grad for p in parameters], parameters, alpha=group["weight_decay"])
            means = [self._moment(p, "mean") for p in parameters]
            squares = [self._moment(p, "square") for p in parameters]
            beta1, beta2 = group["betas"]
            torch._foreach_lerp_(means, gradients, 1 - beta1)
            torch._foreach_mul_(squares, beta2)
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
            roots = torch._foreach_div(squares, 1 - beta2 ** group["steps"])
            torch._foreach_add_(roots, group["eps"])
            torch._foreach_sqrt_(roots)
            torch._foreach_addcdiv_(parameters, means, roots, -group["lr"] / (1 - beta1 ** group["steps"]))

    def _moment(self, parameter: Parameter, name: str) -> torch.Tensor:
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter)
        moment: torch.Tensor = state[name]
        return moment
