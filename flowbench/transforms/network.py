"""Fully connected networks, masked or not, with their gradients written out.

Values are features first, (units, N).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

from flowbench.transforms.pointwise import pointwise
from flowbench.transforms.strips import Layer

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


class Network(nn.Module):
    """Layers with a non-linearity between them; none follows the last.

    ``flat`` (P,) holds all weights and biases, layer by layer: one tensor for the optimizer and the norm of the
    gradient, where a small network would spend most of its time in calls. Disallowed weights are absent, or zero from
    the start and without gradient: no forward pass multiplies a mask. It begins as the MAF paper's networks do, with
    N(0, 1)/√(fan-in + 1) and zero biases; ``fan_in`` is the first layer's.
    """

    _masks: Tensor

    def __init__(self, layers: Sequence[Layer], activation: ActivationName, fan_in: int) -> None:
        super().__init__()
        self.layers = list(layers)
        self.activation = ACTIVATIONS[activation]
        self._sizes = [size for layer in self.layers for size in (*layer.sizes, layer.shape[0])]
        self._mask_shapes = [strip.partial for layer in self.layers for strip in layer.strips]
        self.register_buffer("_masks", torch.cat([layer.partial_masks() for layer in self.layers]), persistent=False)
        fans = [fan_in, *(layer.shape[1] for layer in self.layers[1:])]
        weights = [torch.randn(a.shape) / (fan + 1) ** 0.5 * a.mask() for a, fan in zip(self.layers, fans, strict=True)]
        parts = [(layer.pack(w), w.new_zeros(len(w))) for layer, w in zip(self.layers, weights, strict=True)]
        self.flat = nn.Parameter(torch.cat([part for pair in parts for part in pair]))

    def unpack(self, flat: Tensor) -> tuple[list[list[Tensor]], list[Tensor]]:
        """The weights, strip by strip, and the biases (out,) of all layers: views of what is shaped like ``flat``."""
        parts = iter(torch.split_with_sizes(flat, self._sizes))
        weights, biases = [], []
        for layer in self.layers:
            weights.append([next(parts).view(strip.shape) for strip in layer.strips])
            biases.append(next(parts))
        return weights, biases

    def plain(self, x: Tensor) -> Tensor:
        """The outputs (N, out) of x (N, in).

        With gradients in plain torch throughout: what tests hold ``vjp`` against, and what ``torch.func`` sees through.
        """
        for index, (layer, weights, bias) in enumerate(zip(self.layers, *self.unpack(self.flat), strict=True)):
            x = self.activation.apply_(x) if index else x
            weight = layer.dense(weights)
            # its value, with its gradient masked
            weight = weight.detach() + (weight - weight.detach()) * layer.mask().to(x)
            x = F.linear(x, weight, bias)
        return x

    def vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]:
        """The outputs (out, N) of x (in, N), and the vector–Jacobian product there; called without autograd.

        The product takes the outputs' cotangent to that of x, and writes that of ``flat`` to its second argument.
        """
        weights, biases = self.unpack(self.flat.detach())
        values = self._run(x, weights, biases)

        def pull(cotangent: Tensor, out: Tensor) -> Tensor:
            cotangents = self._cotangents(values, weights, cotangent)
            self.gradient(values, cotangents, out)
            return cotangents[-1]

        return values[-1], pull

    def _run(self, x: Tensor, weights: Weights, biases: Sequence[Tensor]) -> list[Tensor]:
        """The values of every level, (units, N): x (in, N), the hidden ones, the outputs (out, N)."""
        values = [x]
        for index, (layer, own, bias) in enumerate(zip(self.layers, weights, biases, strict=True)):
            values.append(layer.forward(own, values[-1]))
            way = pointwise(values[-1])
            way.finish(values[-1], bias, self.activation if index + 1 < len(self.layers) else None)
        return values

    def _cotangents(self, values: Sequence[Tensor], weights: Weights, outputs: Tensor) -> list[Tensor]:
        """Back-propagate the cotangent of the outputs: those of every level from the outputs down to the input."""
        found = [outputs]
        for index in range(len(self.layers) - 1, -1, -1):
            found.append(self.layers[index].backward(weights[index], found[-1]))
            if index:
                pointwise(found[-1]).slope(found[-1], values[index], self.activation)
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
