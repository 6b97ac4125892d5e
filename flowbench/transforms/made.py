"""MADE: a network whose output for column i depends on the columns before i alone (Germain et al. 2015).

Every unit has a degree: input column i (counted from 1) has degree i, the outputs for column i have degree i − 1, and a
connection is allowed from a unit to units of the same or a higher degree. Units are kept sorted by degree, outputs too
(all for the first column, then all for the second). That only renames units, and it makes every weight matrix block
lower triangular: ``substitution`` lives on that, and ``strips`` leave out most of what is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

from flowbench.transforms.pointwise import per_parameter, pointwise
from flowbench.transforms.strips import Layer
from flowbench.transforms.substitution import Schedule
from flowbench.transforms.univariate import Univariate


def hidden_degrees(units: int, dim: int) -> Tensor:
    """Degrees (units,) of a hidden layer, sorted, between 1 and D − 1.

    The multiset is that of the MAF paper's code, 1 + (h mod (D − 1)), wherever that reaches every degree. With fewer
    units than degrees it would cut the network off from the last columns; there the degrees are spread evenly instead.
    """
    highest = max(dim - 1, 1)  # one column: hidden units see it, and no output sees them
    unit = torch.arange(units)
    if units < highest:
        return 1 + unit * highest // units
    return (1 + unit % highest).sort().values


STRIPS, STRIPPED = 4, 1 << 17
"""A layer of STRIPPED weights or more is kept in STRIPS strips: 5/8 of the arithmetic.

On two cores 4 strips took 0.70 of the time at (1024, 784) and 0.75 at (512, 512), 8 no less, 2 some 0.85; at (512, 43)
they took longer than the whole.
"""

ActivationName = Literal["relu", "tanh"]


@dataclass(frozen=True)
class Activation:
    """A hidden non-linearity, in place; its slope, and what a cotangent becomes, in place, given its *output*."""

    name: ActivationName
    apply_: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    backward_: Callable[[Tensor, Tensor], Tensor]

    def __reduce__(self) -> tuple[Callable[[ActivationName], Activation], tuple[ActivationName]]:
        return _activation, (self.name,)  # a pickle names it: functions without a name cannot be in one


def _activation(name: ActivationName) -> Activation:
    return ACTIVATIONS[name]


_aten = torch.ops.aten
ACTIVATIONS: dict[ActivationName, Activation] = {
    "relu": Activation(
        "relu",
        torch.relu_,
        lambda h: (h > 0).to(h.dtype),
        lambda gradient, h: _aten.threshold_backward.grad_input(gradient, h, 0, grad_input=gradient),
    ),
    "tanh": Activation(
        "tanh",
        torch.tanh_,
        lambda h: 1 - h * h,
        lambda gradient, h: _aten.tanh_backward.grad_input(gradient, h, grad_input=gradient),
    ),
}


Weights = Sequence[Sequence[Tensor]]
"""Of each layer, strip by strip."""


class MADE(nn.Module):
    """The masked conditioner: x (N, D) to ``univariate.parameters`` tensors (N, D); column i of each sees x_<i only.

    Germain et al. 2015, Masked Autoencoder for Distribution Estimation; no activation follows the last layer.

    ``flat`` (P,) holds all weights and biases, layer by layer: one tensor for the optimizer and the norm of the
    gradient, where a small network would spend most of its time in calls. Disallowed weights are absent, or zero from
    the start and without gradient: no forward pass multiplies a mask. A state that holds anything else is refused.
    """

    _masks: Tensor
    weight_starts: Tensor
    step_starts: Tensor

    def __init__(
        self, dim: int, hidden: Sequence[int], univariate: Univariate, activation: ActivationName = "relu"
    ) -> None:
        super().__init__()
        self.dim = dim
        self.univariate = univariate
        self.activation = ACTIVATIONS[activation]
        inner = [hidden_degrees(units, dim) for units in hidden]
        outputs = torch.arange(dim).repeat_interleave(univariate.parameters)
        degrees = [torch.arange(1, dim + 1), *inner, outputs]
        cuts = [dim * strip // STRIPS for strip in range(1, STRIPS)]
        self.layers = [Layer(a, b, cuts if len(a) * len(b) >= STRIPPED else []) for a, b in pairwise(degrees)]
        self.schedule = Schedule(inner, dim, univariate.parameters)
        self.level_sizes = [layer.shape[0] for layer in self.layers]
        self.units = sum(self.level_sizes)
        self.shapes = tuple(layer.shape for layer in self.layers)
        self.whole = all(len(layer.strips) == 1 for layer in self.layers)
        self._sizes = [size for layer in self.layers for size in (*layer.sizes, layer.shape[0])]
        self._mask_shapes = [strip.partial for layer in self.layers for strip in layer.strips]
        starts, steps = self._places()
        self.register_buffer("weight_starts", starts, persistent=False)
        self.register_buffer("step_starts", steps, persistent=False)
        self.register_buffer("_masks", torch.cat([layer.partial_masks() for layer in self.layers]), persistent=False)
        # the MAF paper's initialisation; fan-in counts masked inputs too, as its code does
        weights = [torch.randn(layer.shape) / (layer.shape[1] + 1) ** 0.5 * layer.mask() for layer in self.layers]
        parts = [(layer.pack(w), w.new_zeros(len(w))) for layer, w in zip(self.layers, weights, strict=True)]
        self.flat = nn.Parameter(torch.cat([part for pair in parts for part in pair]))

    def _places(self) -> tuple[Tensor, Tensor]:
        """What a kernel needs that walks the network by itself, in which units are numbered through all levels.

        Where in ``flat`` to find the weight by which a unit sees unit 0 (units,): unit b's is b further; and the first
        unit of every step in every level, for the inverse and for its gradient (2, levels, D + 1).
        """
        tops, position = [0], 0
        starts = [torch.zeros(self.dim, dtype=torch.int64)]
        for layer in self.layers:
            tops.append(sum(map(len, starts)))
            starts.append(position - tops[-2] + layer.row_starts())
            position += sum(layer.sizes) + layer.shape[0]
        there, back = self.schedule.inverse.before, self.schedule.gradient.before
        steps = np.stack([there + np.array(tops)[:, None], back + np.array(tops[::-1])[:, None]])
        return torch.cat(starts), torch.from_numpy(steps)

    def unpack(self, flat: Tensor) -> tuple[list[list[Tensor]], list[Tensor]]:
        """The weights, strip by strip, and the biases (out,) of all layers: views of what is shaped like ``flat``."""
        parts = iter(torch.split_with_sizes(flat, self._sizes))
        weights, biases = [], []
        for layer in self.layers:
            weights.append([next(parts).view(strip.shape) for strip in layer.strips])
            biases.append(next(parts))
        return weights, biases

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The univariate map's parameters for every column, each (N, D).

        With gradients in plain torch throughout: what tests hold ``run`` against, and what ``torch.func`` sees through.
        """
        if not (torch.is_grad_enabled() or torch._C._are_functorch_transforms_active()):
            theta = self.run(x.t().contiguous(), *self.unpack(self.flat))[-1]
            return tuple(parameter.t() for parameter in per_parameter(theta, self.dim))
        for index, (layer, weights, bias) in enumerate(zip(self.layers, *self.unpack(self.flat), strict=True)):
            x = self.activation.apply_(x) if index else x
            weight = layer.dense(weights)
            # its value, with its gradient masked
            weight = weight.detach() + (weight - weight.detach()) * layer.mask().to(x)
            x = F.linear(x, weight, bias)
        return x.view(len(x), self.dim, self.univariate.parameters).unbind(-1)

    def run(self, x: Tensor, weights: Weights, biases: Sequence[Tensor]) -> list[Tensor]:
        """The values of every level, (units, N): x (D, N), the hidden ones, θ (D·P, N) column by column."""
        values = [x]
        for index, (layer, own, bias) in enumerate(zip(self.layers, weights, biases, strict=True)):
            values.append(layer.forward(own, values[-1]))
            way = pointwise(values[-1], self.univariate)
            way.finish(values[-1], bias, self.activation if index + 1 < len(self.layers) else None)
        return values

    def cotangents(self, values: Sequence[Tensor], weights: Weights, theta: Tensor) -> list[Tensor]:
        """Back-propagate the cotangent of θ: those of every level from the outputs down to the input."""
        found = [theta]
        for index in range(len(self.layers) - 1, -1, -1):
            found.append(self.layers[index].backward(weights[index], found[-1]))
            if index:
                pointwise(found[-1], self.univariate).slope(found[-1], values[index], self.activation)
        return found

    def gradient(self, values: Sequence[Tensor], cotangents: Sequence[Tensor], out: Tensor) -> None:
        """Write the gradient of ``flat``, from the values and, from the outputs down, the cotangents of all levels."""
        parts = torch.split_with_sizes(self._masks, [rows * columns for rows, columns in self._mask_shapes])
        masks = (part.view(shape) for part, shape in zip(parts, self._mask_shapes, strict=True))
        for index, (layer, weights, bias) in enumerate(zip(self.layers, *self.unpack(out), strict=True)):
            cotangent = cotangents[len(self.layers) - 1 - index]
            own = list(islice(masks, len(weights)))
            layer.gradient(weights, own, cotangent, values[index])
            torch.sum(cotangent, 1, out=bias)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        flat = state_dict.get(prefix + "flat")
        if flat is not None and flat.shape == self.flat.shape:
            for layer, weights in zip(self.layers, self.unpack(flat)[0], strict=True):
                if layer.dense(weights)[layer.mask().to(flat.device) == 0].any():
                    error_msgs: list[str] = rest[-1]
                    error_msgs.append(f"{prefix}flat: weights that the mask forbids are not zero")
        super()._load_from_state_dict(state_dict, prefix, *rest)
