"""One step of training: the gradient, its norm's bound, and Adam, without the host's waiting for any of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import Parameter

from flowbench.config import TrainingOptions
from flowbench.engines import choose
from flowbench.training.objective import Model
from flowbench.training.optimizers import Adam, Adamax, AdamInnerEpsilon
from flowbench.transforms import Network
from flowbench.tuning import RUN_GAP

OPTIMIZERS = {"adam": Adam, "adam-inner-epsilon": AdamInnerEpsilon, "adamax": Adamax}


class Descent:
    """Steps down the loss of a model: the mean negative log-likelihood of a flow, say.

    From the first loss or gradient that is not finite on, steps do nothing: the weights that gave it can be looked at.
    ``stopped`` () is then 1; only reading it waits for the device. It takes the model's parameters as parts of one
    tensor: one descent a model at a time, and no move to another device or dtype meanwhile. On CUDA a step is a graph.
    """

    def __init__(self, model: Model, options: TrainingOptions) -> None:
        self._model = model
        # one parameter for the optimizer, of which the model's are views: over many small ones it is mostly calls
        trained = (parameter for parameter in model.parameters() if parameter.requires_grad)
        self._parameters = [parameter for parameter in trained if parameter.numel()]  # of one column some are empty
        self._flat = Parameter(torch.cat([parameter.detach().flatten() for parameter in self._parameters]))
        self._flat.grad = torch.zeros_like(self._flat)
        self._gradients = self._parts(self._flat.grad)
        for parameter, part in zip(self._parameters, self._parts(self._flat.detach()), strict=True):
            parameter.data = part
        self._clip_norm = options.clip_norm
        self.stopped = self._flat.new_zeros((), dtype=torch.float32)  # as fused Adam wants it
        self._rate = self._flat.new_tensor(options.learning_rate, dtype=torch.float32)  # a graph reads it where it lies
        kind = OPTIMIZERS[options.optimizer]
        self._optimizer = kind(self._flat, self._rate, eps=options.epsilon, weight_decay=options.weight_decay)
        also = {"norms": self._flat.new_zeros(()), "stopped": self.stopped}
        self._averaging = options.averaging
        if self._averaging is not None:
            also |= {"average": self._flat.detach().clone(), "averaged": self._flat.new_zeros(())}
        self.state: dict[str, Tensor] = self._optimizer.state | also
        """All that steps change beside the model: moments, the gradients' norms, whether they stopped, averages."""
        self._optimizer.found_inf = self.stopped
        engine = model.engine or choose(self._flat)
        self._launch = engine.launcher(self._flat.device)
        self._update = engine.updater(self._flat, self.state, options, self._runs()) if kind is Adam else None

    def step(self, rows: Tensor, rate: float) -> Tensor:
        """One step on ``rows`` (N, D) at this learning rate; the loss () before it, in nats, or what is not finite.

        Raises:
            RuntimeError: the model's parameters are no longer those that the descent took.
        """
        if self._parameters[0].data_ptr() != self._flat.data_ptr():
            raise RuntimeError("the model was moved to another device or dtype: begin a new descent")
        self._rate.fill_(rate)
        loss = self._launch(self._step, rows)
        if self._update:
            self._update(loss, rate)
        if self._averaging is not None:
            self._average(self._averaging)
        return loss

    @torch.no_grad()
    def _average(self, most: float) -> None:
        """Of n steps it keeps (1 + n)/(10 + n), and ``most`` at the most: the beginning is soon forgotten."""
        average, taken = self.state["average"], self.state["averaged"]
        taken += 1
        average.lerp_(self._flat.detach(), 1 - ((1 + taken) / (10 + taken)).clamp(max=most))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Have the model the averages of its weights, where averages are taken."""
        if self._averaging is None:
            yield
            return
        weights = self._flat.detach()
        own = weights.clone()
        try:
            weights.copy_(self.state["average"])
            yield
        finally:
            weights.copy_(own)

    def forget(self) -> None:
        """Begin anew from the weights that the model has now: no moments, no steps, nothing that stops."""
        for value in self.state.values():
            value.zero_()
        self.average_anew()

    def average_anew(self) -> None:
        """Begin averages at the weights that the model has now, if there are any."""
        if self._averaging is not None:
            self.state["average"].copy_(self._flat.detach())
            self.state["averaged"].zero_()

    def _parts(self, flat: Tensor) -> list[Tensor]:
        """Views of what is shaped like the flat parameter, one for each of the model's."""
        parts = flat.split([parameter.numel() for parameter in self._parameters])
        return [part.view_as(parameter) for parameter, part in zip(self._parameters, parts, strict=True)]

    def _runs(self) -> list[tuple[int, int]]:
        """Parts (start, stop) of the flat parameter outside of which masks leave no gradient."""
        networks = [module for module in self._model.modules() if isinstance(module, Network)]
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
        loss = self._model.backpropagate(rows)
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
