"""Optimizers of one flat parameter, without the host's waiting for the device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.adam import adam

from flowbench.engines.interface import BETAS


class Adam:
    """θ ← θ − lr·m̂/(√v̂ + ε), with coupled L2 (Kingma and Ba 2015), in one kernel of torch's.

    A ``found_inf`` of 1 makes a step do nothing, and gradients are divided by ``grad_scale``, if there is one; the
    device is never waited for. ``state`` is changed in place. Torch's own class does the same, but to construct one
    imports torch's compiler, which takes seconds.
    """

    def __init__(self, parameter: Parameter, lr: Tensor, eps: float = 1e-8, weight_decay: float = 0.0) -> None:
        self._parameter, self._lr = parameter, lr
        self.state = {
            "exp_avg": torch.zeros_like(parameter.detach()),
            "exp_avg_sq": torch.zeros_like(parameter.detach()),
            "step": parameter.new_zeros((), dtype=torch.float32),
        }
        self._choice: dict[str, Any] = {"beta1": BETAS[0], "beta2": BETAS[1], "eps": eps, "weight_decay": weight_decay}
        self.found_inf = parameter.new_zeros((), dtype=torch.float32)
        self.grad_scale: Tensor | None = None

    @torch.no_grad()
    def step(self) -> None:
        """One update from the gradient that is there."""
        assert self._parameter.grad is not None
        mean, square, steps = self.state.values()
        adam(
            [self._parameter],
            [self._parameter.grad],
            [mean],
            [square],
            [],
            [steps],
            fused=True,
            capturable=self._parameter.is_cuda,
            grad_scale=self.grad_scale,
            found_inf=self.found_inf,
            lr=self._lr,
            amsgrad=False,
            maximize=False,
            **self._choice,
        )


class AdamInnerEpsilon:
    """θ ← θ − lr·m̂/√(v̂ + ε), with coupled L2 (gpapamak/maf, ml/step_strategies.py).

    Its bias corrections start one power later than Adam's: the first step divides by 1 − β².
    Torch's Adam divides by √v̂ + ε. With ε = 1e-8 the difference is no detail: the root of ε, 1e-4, is what small
    gradients are divided by here. ``found_inf``, ``grad_scale`` and ``state`` are as of `Adam`.
    """

    def __init__(
        self,
        parameter: Parameter,
        lr: Tensor,
        betas: tuple[float, float] = BETAS,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self._parameter, self._lr, self._betas, self._eps, self._weight_decay = parameter, lr, betas, eps, weight_decay
        self._mean, self._square = torch.zeros_like(parameter.detach()), torch.zeros_like(parameter.detach())
        self._steps = parameter.new_zeros(())
        self.state = {"exp_avg": self._mean, "exp_avg_sq": self._square, "step": self._steps}
        self.found_inf = parameter.new_zeros(())
        self.grad_scale: Tensor | None = None

    @torch.no_grad()
    def step(self) -> None:
        """One update from the gradient that is there."""
        gradient, goes_on = _finite_gradient(self._parameter, self.found_inf, self.grad_scale, self._weight_decay)
        beta1, beta2 = self._betas
        self._steps += goes_on
        self._mean.lerp_(gradient, goes_on * (1 - beta1))
        self._square.lerp_(gradient * gradient, goes_on * (1 - beta2))
        taken = self._steps.clamp(min=1) + 1
        root = (self._square / (1 - beta2**taken)).add_(self._eps).sqrt_()
        rate = self._lr / (1 - beta1**taken) * goes_on
        self._parameter.sub_(rate * self._mean / root)


class Adamax:
    """u ← max(β₂·u, |g|), θ ← θ − lr/(1 − β₁ᵗ)·m/(u + ε), with coupled L2 (Kingma and Ba 2015, algorithm 2).

    ``found_inf``, ``grad_scale`` and ``state`` are as of `Adam`.
    """

    def __init__(self, parameter: Parameter, lr: Tensor, eps: float = 1e-8, weight_decay: float = 0.0) -> None:
        self._parameter, self._lr, self._eps, self._weight_decay = parameter, lr, eps, weight_decay
        self._mean, self._largest = torch.zeros_like(parameter.detach()), torch.zeros_like(parameter.detach())
        self._steps = parameter.new_zeros(())
        self.state = {"exp_avg": self._mean, "exp_inf": self._largest, "step": self._steps}
        self.found_inf = parameter.new_zeros(())
        self.grad_scale: Tensor | None = None

    @torch.no_grad()
    def step(self) -> None:
        """One update from the gradient that is there."""
        gradient, goes_on = _finite_gradient(self._parameter, self.found_inf, self.grad_scale, self._weight_decay)
        beta1, beta2 = BETAS
        self._steps += goes_on
        self._mean.lerp_(gradient, goes_on * (1 - beta1))
        decayed = self._largest * (1 - goes_on * (1 - beta2))
        torch.maximum(decayed, gradient.abs(), out=self._largest)
        rate = self._lr / (1 - beta1 ** self._steps.clamp(min=1)) * goes_on
        self._parameter.sub_(rate * self._mean / (self._largest + self._eps))


def _finite_gradient(
    parameter: Parameter, found_inf: Tensor, grad_scale: Tensor | None, weight_decay: float
) -> tuple[Tensor, Tensor]:
    """The gradient that a step takes, all zero from what was not finite on, and whether it goes on (), 1 or 0."""
    assert parameter.grad is not None
    finite = found_inf == 0
    gradient = parameter.grad if grad_scale is None else parameter.grad / grad_scale
    gradient = torch.add(gradient, parameter, alpha=weight_decay)
    return torch.where(finite, gradient, 0), finite.to(parameter.dtype)  # NaN times zero is NaN
