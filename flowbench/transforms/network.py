"""Fully connected networks, masked or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

from flowbench.transforms.activation import ACTIVATIONS, Activation
from flowbench.transforms.packing import Packing
from flowbench.transforms.plan import NetworkPlan


class Network(nn.Module):
    """Linear layers with a non-linearity between them; none follows the last.

    ``flat`` (P,) holds all weights and biases, as ``packing`` lays them out; in a state they are dense, ``0.weight``,
    ``0.bias`` and so on, whatever the packing. Weights that a mask forbids are zero from the start and have no
    gradient, and a state in which they are not is refused. The network begins as the MAF paper's do, with
    N(0, 1)/√(fan-in + 1) and zero biases; ``fan_in`` is the first layer's.
    """

    masks: Tensor

    def __init__(self, degrees: Sequence[Tensor], activation: str | Activation, fan_in: int) -> None:
        super().__init__()
        self.packing = packing = Packing(degrees)
        self.activation = ACTIVATIONS[activation] if isinstance(activation, str) else activation
        self.plan = NetworkPlan(packing, self.activation)
        fans = [fan_in, *(layer.shape[1] for layer in packing.layers[1:])]
        weights = [
            torch.randn(layer.shape) / (fan + 1) ** 0.5 * layer.mask()
            for layer, fan in zip(packing.layers, fans, strict=True)
        ]
        self.flat = nn.Parameter(packing.pack([(weight, weight.new_zeros(len(weight))) for weight in weights]))
        self.register_buffer("masks", packing.masks(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs (N, out) of x (N, in)."""
        return self.through(x, self.layers())

    def through(self, x: Tensor, layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """As ``forward``, by what ``layers`` gave: for those who run the network many times."""
        for index, (weight, bias) in enumerate(layers):
            x = F.linear(self.activation(x) if index else x, weight, bias)
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
