"""MADE: a network whose output for column i depends on the columns before i alone (Germain et al. 2015).

Every unit has a degree: input column i (counted from 1) has degree i, the outputs for column i have degree i − 1, and a
connection is allowed from a unit to units of the same or a higher degree. Units are kept sorted by degree. That only
renames hidden units, and it makes every weight matrix block lower triangular, which ``substitution`` lives on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

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


class _MaskGradient(Function):
    """The weight itself, whose gradient is masked: masked weights start at zero and stay there, for no forward cost."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor, mask: Tensor) -> Tensor:
        return weight.view_as(weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return gradients[0] * mask, None


class MaskedLinear(nn.Module):
    """A linear layer, (N, in) to (N, out), that connects units to units of the same or a higher degree only.

    Disallowed weights are zero from the start, get no gradient, and are never multiplied by a mask. A state that holds
    anything else there is refused when it is loaded.
    """

    mask: Tensor

    def __init__(self, in_degrees: Tensor, out_degrees: Tensor) -> None:
        super().__init__()
        # a mask of floats: multiplying a gradient by a boolean one takes 50 times longer on a CPU
        mask = (out_degrees[:, None] >= in_degrees).to(torch.get_default_dtype())
        self.register_buffer("mask", mask, persistent=False)
        # the MAF paper's initialisation; fan-in counts masked inputs too, as its code does
        weight = torch.randn(len(out_degrees), len(in_degrees)) / (len(in_degrees) + 1) ** 0.5
        self.weight = nn.Parameter(weight * self.mask)
        self.bias = nn.Parameter(torch.zeros(len(out_degrees)))

    def masked_weight(self) -> Tensor:
        """The weight (out, in), tied to the mask in backward."""
        if not torch.is_grad_enabled():
            return self.weight  # a tenth of the time that a small layer takes
        return _MaskGradient.apply(self.weight, self.mask)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        """x (N, in) to (N, out)."""
        return F.linear(x, self.masked_weight(), self.bias)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        weight = state_dict.get(prefix + "weight")
        if weight is not None and weight.shape == self.mask.shape and weight[self.mask.to(weight.device) == 0].any():
            error_msgs: list[str] = rest[-1]
            error_msgs.append(f"{prefix}weight: weights that the mask forbids are not zero")
        super()._load_from_state_dict(state_dict, prefix, *rest)


ActivationName = Literal["relu", "tanh"]


@dataclass(frozen=True)
class Activation:
    """A hidden non-linearity, in place, and its slope as a function of its *output*."""

    name: ActivationName
    apply_: Any
    slope: Any


ACTIVATIONS: dict[ActivationName, Activation] = {
    "relu": Activation("relu", torch.relu_, lambda h: (h > 0).to(h.dtype)),
    "tanh": Activation("tanh", torch.tanh_, lambda h: 1 - h * h),
}


class MADE(nn.Module):
    """The masked conditioner: x (N, D) to ``univariate.parameters`` tensors (N, D); column i of each sees x_<i only.

    Germain et al. 2015, Masked Autoencoder for Distribution Estimation; no activation follows the last layer.
    """

    def __init__(
        self, dim: int, hidden: Sequence[int], univariate: Univariate, activation: ActivationName = "relu"
    ) -> None:
        super().__init__()
        self.dim = dim
        self.univariate = univariate
        self.activation = ACTIVATIONS[activation]
        inputs, outputs = torch.arange(1, dim + 1), torch.arange(dim)
        inner = [hidden_degrees(units, dim) for units in hidden]
        degrees = [inputs, *inner, outputs.repeat(univariate.parameters)]
        self.layers = nn.ModuleList(MaskedLinear(a, b) for a, b in pairwise(degrees))
        self.schedule = Schedule(inner, dim, univariate.parameters)

    def linears(self) -> list[MaskedLinear]:
        """The layers from input to output."""
        return [cast("MaskedLinear", layer) for layer in self.layers]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The univariate map's parameters for every column, each (N, D)."""
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation.apply_(layer(x))
        return last(x).view(len(x), self.univariate.parameters, self.dim).unbind(1)
