"""One step of training: the gradient, its norm's bound, and Adam, without the host's waiting for any of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Adam, Optimizer

from flowbench.config import TrainingOptions
from flowbench.flows import Flow


class Descent:
    """Steps down the mean negative log-likelihood of a flow.

    From the first loss or gradient that is not finite on, steps do nothing: the weights that gave it can be looked at.
    ``stopped`` () is then 1; only reading it waits for the device. It takes the flow's parameters as parts of one
    tensor: one descent a flow at a time, and no move to another device or dtype meanwhile.
    """

    def __init__(self, flow: Flow, options: TrainingOptions) -> None:
        self._flow = flow
        # one parameter for the optimizer, of which the flow's are views: over many small ones it is mostly calls
        self._parameters = [parameter for parameter in flow.parameters() if parameter.requires_grad]
        self._flat = Parameter(torch.cat([parameter.detach().flatten() for parameter in self._parameters]))
        sizes = [parameter.numel() for parameter in self._parameters]
        for parameter, part in zip(self._parameters, self._flat.detach().split(sizes), strict=True):
            parameter.data = part.view_as(parameter)
        self._clip_norm = options.clip_norm
        choice: Any = {"lr": options.learning_rate, "eps": options.epsilon, "weight_decay": options.weight_decay}
        self._optimizer: Any
        if options.optimizer == "adam-inner-epsilon":
            self._optimizer = AdamInnerEpsilon([self._flat], **choice)
        else:
            self._optimizer = Adam([self._flat], **choice, fused=True)
        self.stopped = torch.zeros((), device=self._flat.device, dtype=torch.float32)  # as fused Adam wants it

    def step(self, rows: Tensor, rate: float) -> Tensor:
        """One step on ``rows`` (N, D) at this learning rate; the loss () before it, in nats, or what is not finite."""
        loss = self._flow.backpropagate(rows)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters]
        self._flat.grad = torch.cat([gradient.flatten() for gradient in gradients])
        norm = torch.linalg.vector_norm(self._flat.grad)
        loss = loss + norm * 0  # a norm that is not finite shows in it
        # 1 and no more: Adam compares with 1
        self.stopped = torch.maximum(self.stopped, (~loss.isfinite()).to(self.stopped.dtype))
        self._optimizer.found_inf = self.stopped
        if self._clip_norm is not None:
            # Adam divides by it on its way: clipping costs no pass over the gradient
            self._optimizer.grad_scale = (norm / self._clip_norm).clamp_(min=1).float()
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        return loss


class AdamInnerEpsilon(Optimizer):
    """θ ← θ − lr·m̂/√(v̂ + ε), with coupled L2 (gpapamak/maf, ml/step_strategies.py).

    Torch's Adam divides by √v̂ + ε. With ε = 1e-8 the difference is no detail: the root of ε, 1e-4, is what small
    gradients are divided by here. As in torch's fused Adam, a ``found_inf`` above zero makes a step do nothing, and
    gradients are divided by ``grad_scale``, if there is one.
    """

    found_inf: Tensor | None = None
    grad_scale: Tensor | None = None

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
            gradients: Any = [p.grad for p in parameters]
            if self.grad_scale is not None:
                gradients = torch._foreach_div(gradients, self.grad_scale)
            gradients = torch._foreach_add(gradients, parameters, alpha=group["weight_decay"])
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

    def _moment(self, parameter: Parameter, name: str) -> Tensor:
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter)
        moment: Tensor = state[name]
        return moment
