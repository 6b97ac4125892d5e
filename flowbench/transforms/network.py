"""Fully connected networks, masked or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

from flowbench.transforms.activation import RELU, Activation
from flowbench.transforms.packing import Packing
from flowbench.transforms.plan import NetworkPlan

BLOCK_SHARE = 0.1
"""Of the usual size, that of the weights with which a block's second layer begins."""


@dataclass(frozen=True)
class Body:
    """What lies between a network's inputs and its outputs.

    ``widths`` are the units of each hidden layer. In a ``residual`` body the first is that of s = W·x + b, and each
    other one that of a block, s ← s + W₂·a(W₁·a(s) + b₁) + b₂; the outputs see a(s). (The blocks of He et al. 2016,
    "Identity mappings in deep residual networks", masked as by Nash and Durkan 2019.) A share ``dropout`` of units is
    left out of each hidden layer in training, inside blocks only.
    """

    widths: tuple[int, ...]
    activation: Activation = RELU
    residual: bool = False
    dropout: float = 0.0

    @property
    def layers(self) -> tuple[int, ...]:
        """The units of each hidden layer, those of the blocks among them."""
        if not self.residual:
            return self.widths
        first, *inner = self.widths
        return first, *(units for width in inner for units in (width, first))


class Network(nn.Module):
    """Linear layers with a non-linearity between them; none follows the last. See `Body`.

    ``flat`` (P,) holds all weights and biases, as ``packing`` lays them out; in a state they are dense, ``0.weight``,
    ``0.bias`` and so on, whatever the packing. Weights that a mask forbids are zero from the start and have no
    gradient, and a state in which they are not is refused. The network begins as the MAF paper's do, with
    N(0, 1)/√(fan-in + 1) and zero biases; ``fan_in`` is the first layer's.
    """

    masks: Tensor

    def __init__(self, degrees: Sequence[Tensor], body: Body, fan_in: int) -> None:
        super().__init__()
        self.packing = packing = Packing(degrees)
        self.activation = body.activation
        plan = NetworkPlan(packing, body.activation, body.residual)
        self._plans = plan, replace(plan, dropout=body.dropout)
        fans = [fan_in, *(layer.shape[1] for layer in packing.layers[1:])]
        weights = [
            torch.randn(layer.shape) / (fan + 1) ** 0.5 * layer.mask() * self._share(level)
            for level, (layer, fan) in enumerate(zip(packing.layers, fans, strict=True), start=1)
        ]
        self.flat = nn.Parameter(packing.pack([(weight, weight.new_zeros(len(weight))) for weight in weights]))
        self.register_buffer("masks", packing.masks(), persistent=False)

    def _share(self, level: int) -> float:
        """What a block adds is small at first, so that sums do not grow from one to the next."""
        return BLOCK_SHARE if level > 1 and self._plans[0].is_stream(level) else 1.0

    @torch.no_grad()
    def begin(self, biases: Tensor, share: float = 1.0) -> None:
        """Begin training with these biases of the outputs, and this share of their weights' size."""
        last = self.packing.views(self.flat)[-1]
        last.bias.copy_(biases)
        for strip in last.strips:
            strip *= share

    @property
    def plan(self) -> NetworkPlan:
        """Its layout, and the share of units that it leaves out now."""
        return self._plans[self.training]

    def forward(self, x: Tensor) -> Tensor:
        """The outputs (N, out) of x (N, in)."""
        return self.through(x, self.layers())

    def through(self, x: Tensor, layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """As ``forward``, by what ``layers`` gave: for those who run the network many times."""
        plan, stream = self.plan, torch.zeros(())
        for level, (weight, bias) in enumerate(layers, start=1):
            x = F.linear(x, weight, bias)
            if plan.is_stream(level):
                x = stream = x + stream.to(x)
            if level < len(layers):
                x = self.activation(x)
            if plan.drops(level):
                x = F.dropout(x, plan.dropout)
        return x

    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Each layer's weight (out, in) and bias (out,), differentiable in ``flat``.

        Weights that a mask forbids are zero already: only their gradient needs the mask. One that is not zero is not
        hidden here, so that checks find it.
        """
        found = []
        for view in self.packing.views(self.flat):
            weight, mask = view.dense(), view.packing.mask().to(self.flat)
            found.append((weight.detach() + (weight - weight.detach()) * mask, view.bias))
        return found

    @property
    def inputs(self) -> int:
        """How many columns it reads."""
        return self.packing.layers[0].shape[1]

    @property
    def outputs(self) -> int:
        """How many numbers it gives."""
        return self.packing.layers[-1].shape[0]

    def extra_repr(self) -> str:
        """Its sizes."""
        sizes = [self.inputs, *(layer.shape[0] for layer in self.packing.layers)]
        return f"{' → '.join(map(str, sizes))}, {self.activation.name}, {self.packing.size:,} parameters"

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for index, view in enumerate(self.packing.views(self.flat.detach())):
            destination[f"{prefix}{index}.weight"], destination[f"{prefix}{index}.bias"] = view.dense(), view.bias

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        missing, unexpected, errors = rest[-3:]
        unexpected += [key for key in state_dict if key.startswith(prefix) and key not in self._keys(prefix)]
        for index, view in enumerate(self.packing.views(self.flat.detach())):
            name, expected = f"{prefix}{index}.weight", view.packing.shape
            weight, bias = (state_dict.get(key) for key in self._keys(prefix)[2 * index : 2 * index + 2])
            missing += [key for key in self._keys(prefix)[2 * index : 2 * index + 2] if key not in state_dict]
            if weight is not None and weight.shape != expected:
                errors.append(f"{name}: shape {tuple(weight.shape)}, expected {expected}")
            elif weight is not None and weight[view.packing.mask().to(weight.device) == 0].any():
                errors.append(f"{name}: weights that the mask forbids are not zero")
            elif weight is not None:
                view.set_dense(weight)
            if bias is not None and bias.shape != view.bias.shape:
                errors.append(f"{prefix}{index}.bias: shape {tuple(bias.shape)}, expected {expected[:1]}")
            elif bias is not None:
                view.bias.copy_(bias)

    def _keys(self, prefix: str) -> list[str]:
        return [f"{prefix}{index}.{kind}" for index in range(len(self.packing.layers)) for kind in ("weight", "bias")]
