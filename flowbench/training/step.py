"""One step of training: the gradient, its norm's bound, and Adam, without the host's waiting for any of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Adam

from flowbench.config import TrainingOptions
from flowbench.engines import choose
from flowbench.flows import Flow


class Descent:
    """Steps down the mean negative log-likelihood of a flow.

    From the first loss or gradient that is not finite on, steps do nothing: the weights that gave it can be looked at.
    ``stopped`` () is then 1; only reading it waits for the device. It takes the flow's parameters as parts of one
    tensor: one descent a flow at a time, and no move to another device or dtype meanwhile. On CUDA a step is one graph.
    """

    def __init__(self, flow: Flow, options: TrainingOptions) -> None:
        self._flow = flow
        # one parameter for the optimizer, of which the flow's are views: over many small ones it is mostly calls
        self._parameters = [parameter for parameter in flow.parameters() if parameter.requires_grad]
        self._flat = Parameter(torch.cat([parameter.detach().flatten() for parameter in self._parameters]))
        self._flat.grad = torch.zeros_like(self._flat)
        self._gradients = self._parts(self._flat.grad)
        for parameter, part in zip(self._parameters, self._parts(self._flat.detach()), strict=True):
            parameter.data = part
        self._clip_norm = options.clip_norm
        self.stopped = self._flat.new_zeros((), dtype=torch.float32)  # as fused Adam wants it
        self._rate = self._flat.new_tensor(options.learning_rate, dtype=torch.float32)  # a graph reads it where it lies
        choice: Any = {"lr": self._rate, "eps": options.epsilon, "weight_decay": options.weight_decay}
        self._optimizer: Any
        if options.optimizer == "adam-inner-epsilon":
            self._optimizer = AdamInnerEpsilon(self._flat, **choice)
            moments = self._optimizer.state
        else:
            self._optimizer = Adam([self._flat], **choice, fused=True, capturable=self._flat.is_cuda)
            zeros = torch.zeros_like(self._flat.detach()), torch.zeros_like(self._flat.detach())
            moments = {"exp_avg": zeros[0], "exp_avg_sq": zeros[1], "step": self.stopped.clone()}
            self._optimizer.state[self._flat] = moments  # which it would make at its first step
        self.state: dict[str, Tensor] = moments | {"norms": self._flat.new_zeros(())}
        """All that steps change beside the flow: the optimizer's moments, and the sum of the gradients' norms."""
        self._optimizer.found_inf = self.stopped
        self._launch = (flow.engine or choose(self._flat)).launcher(self._flat.device)

    def step(self, rows: Tensor, rate: float) -> Tensor:
        """One step on ``rows`` (N, D) at this learning rate; the loss () before it, in nats, or what is not finite.

        Raises:
            RuntimeError: the flow's parameters are no longer those that the descent took.
        """
        if self._parameters[0].data_ptr() != self._flat.data_ptr():
            raise RuntimeError("the flow was moved to another device or dtype: begin a new descent")
        self._rate.fill_(rate)
        return self._launch(self._step, rows)

    def forget(self) -> None:
        """Begin anew from the weights that the flow has now: no moments, no steps, nothing that stops."""
        for value in (*self.state.values(), self.stopped):
            value.zero_()

    def _parts(self, flat: Tensor) -> list[Tensor]:
        """Views of what is shaped like the flat parameter, one for each of the flow's."""
        parts = flat.split([parameter.numel() for parameter in self._parameters])
        return [part.view_as(parameter) for parameter, part in zip(self._parameters, parts, strict=True)]

    def _step(self, rows: Tensor) -> Tensor:
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        loss = self._flow.backpropagate(rows)
        norm = torch.linalg.vector_norm(self._flat.grad)
        self.state["norms"] += norm
        loss = loss + norm * 0  # a norm that is not finite shows in it
        self.stopped.masked_fill_((loss - loss) != 0, 1)  # 1 and no more: Adam compares with 1
        if self._clip_norm is not None:
            # Adam divides by it on its way: clipping costs no pass over the gradient
            self._optimizer.grad_scale = (norm / self._clip_norm).clamp_(min=1).float()
        self._optimizer.step()
        return loss


class AdamInnerEpsilon:
    """θ ← θ − lr·m̂/√(v̂ + ε), with coupled L2 (gpapamak/maf, ml/step_strategies.py).

    Torch's Adam divides by √v̂ + ε. With ε = 1e-8 the difference is no detail: the root of ε, 1e-4, is what small
    gradients are divided by here. As in torch's fused Adam, a ``found_inf`` of 1 makes a step do nothing, and gradients
    are divided by ``grad_scale``, if there is one; the device is never waited for. ``state`` is changed in place.
    """

    def __init__(
        self,
        parameter: Parameter,
        lr: Tensor,
        betas: tuple[float, float] = (0.9, 0.999),
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
        assert self._parameter.grad is not None
        finite = self.found_inf == 0
        goes_on = finite.to(self._parameter.dtype)
        gradient = self._parameter.grad if self.grad_scale is None else self._parameter.grad / self.grad_scale
        gradient = torch.add(gradient, self._parameter, alpha=self._weight_decay)
        gradient = torch.where(finite, gradient, 0)  # NaN times zero is NaN
        beta1, beta2 = self._betas
        self._steps += goes_on
        self._mean.lerp_(gradient, goes_on * (1 - beta1))
        self._square.lerp_(gradient * gradient, goes_on * (1 - beta2))
        taken = self._steps.clamp(min=1)
        root = (self._square / (1 - beta2**taken)).add_(self._eps).sqrt_()
        rate = self._lr / (1 - beta1**taken) * goes_on
        self._parameter.sub_(rate * self._mean / root)
