"""One step of training: the gradient, its norm's bound, and Adam, without the host's waiting for any of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.adam import adam

from flowbench.config import TrainingOptions
from flowbench.engines import choose
from flowbench.engines.interface import BETAS
from flowbench.flows import Flow
from flowbench.transforms import Network
from flowbench.tuning import RUN_GAP


class Descent:
    """Steps down the mean negative log-likelihood of a flow.

    From the first loss or gradient that is not finite on, steps do nothing: the weights that gave it can be looked at.
    ``stopped`` () is then 1; only reading it waits for the device. It takes the flow's parameters as parts of one
    tensor: one descent a flow at a time, and no move to another device or dtype meanwhile. On CUDA a step is one graph.
    """

    def __init__(self, flow: Flow, options: TrainingOptions) -> None:
        self._flow = flow
        # one parameter for the optimizer, of which the flow's are views: over many small ones it is mostly calls
        trained = (parameter for parameter in flow.parameters() if parameter.requires_grad)
        self._parameters = [parameter for parameter in trained if parameter.numel()]  # of one column some are empty
        self._flat = Parameter(torch.cat([parameter.detach().flatten() for parameter in self._parameters]))
        self._flat.grad = torch.zeros_like(self._flat)
        self._gradients = self._parts(self._flat.grad)
        for parameter, part in zip(self._parameters, self._parts(self._flat.detach()), strict=True):
            parameter.data = part
        self._clip_norm = options.clip_norm
        self.stopped = self._flat.new_zeros((), dtype=torch.float32)  # as fused Adam wants it
        self._rate = self._flat.new_tensor(options.learning_rate, dtype=torch.float32)  # a graph reads it where it lies
        kind = AdamInnerEpsilon if options.optimizer == "adam-inner-epsilon" else Adam
        self._optimizer = kind(self._flat, self._rate, eps=options.epsilon, weight_decay=options.weight_decay)
        also = {"norms": self._flat.new_zeros(()), "stopped": self.stopped}
        self.state: dict[str, Tensor] = self._optimizer.state | also
        """All that steps change beside the flow: moments, the sum of the gradients' norms, and whether they stopped."""
        self._optimizer.found_inf = self.stopped
        engine = flow.engine or choose(self._flat)
        self._launch = engine.launcher(self._flat.device)
        self._update = engine.updater(self._flat, self.state, options, self._runs()) if kind is Adam else None

    def step(self, rows: Tensor, rate: float) -> Tensor:
        """One step on ``rows`` (N, D) at this learning rate; the loss () before it, in nats, or what is not finite.

        Raises:
            RuntimeError: the flow's parameters are no longer those that the descent took.
        """
        if self._parameters[0].data_ptr() != self._flat.data_ptr():
            raise RuntimeError("the flow was moved to another device or dtype: begin a new descent")
        self._rate.fill_(rate)
        loss = self._launch(self._step, rows)
        if self._update:
            self._update(loss, rate)
        return loss

    def forget(self) -> None:
        """Begin anew from the weights that the flow has now: no moments, no steps, nothing that stops."""
        for value in self.state.values():
            value.zero_()

    def _parts(self, flat: Tensor) -> list[Tensor]:
        """Views of what is shaped like the flat parameter, one for each of the flow's."""
        parts = flat.split([parameter.numel() for parameter in self._parameters])
        return [part.view_as(parameter) for parameter, part in zip(self._parameters, parts, strict=True)]

    def _runs(self) -> list[tuple[int, int]]:
        """Parts (start, stop) of the flat parameter outside of which masks leave no gradient."""
        networks = [module for module in self._flow.modules() if isinstance(module, Network)]
        packings = {id(network.flat): network.packing for network in networks}
        found, first = [], 0
        for parameter in self._parameters:
            packing, size = packings.get(id(parameter)), parameter.numel()
            parts = [(0, size)] if packing is None else packing.runs(RUN_GAP)
            found += [(first + start, first + stop) for start, stop in parts]
            first += size
        return found

    def _step(self, rows: Tensor) -> Tensor:
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        loss = self._flow.backpropagate(rows)
        if self._update:
            return loss
        norm = torch.linalg.vector_norm(self._flat.grad)
        self.state["norms"] += norm
        loss = loss + norm * 0  # a norm that is not finite shows in it
        self.stopped.masked_fill_((loss - loss) != 0, 1)  # 1 and no more: Adam compares with 1
        if self._clip_norm is not None:
            # Adam divides by it on its way: clipping costs no pass over the gradient
            self._optimizer.grad_scale = (norm / self._clip_norm).clamp_(min=1).float()
        self._optimizer.step()
        return loss


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
        taken = self._steps.clamp(min=1) + 1
        root = (self._square / (1 - beta2**taken)).add_(self._eps).sqrt_()
        rate = self._lr / (1 - beta1**taken) * goes_on
        self._parameter.sub_(rate * self._mean / root)
