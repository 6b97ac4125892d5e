"""MADE: a network whose output for column i depends on the columns before i alone (Germain et al. 2015).

Every unit has a degree: input column i (counted from 1) has degree i, the outputs for column i have degree i − 1, and a
connection is allowed from a unit to units of the same or a higher degree. Units are kept sorted by degree, outputs too
(all for the first column, then all for the second). That only renames units, and it makes every weight matrix block
lower triangular: ``substitution`` lives on that, and ``packing`` leaves out most of what is zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from flowbench.transforms.activation import Activation
from flowbench.transforms.network import Network
from flowbench.transforms.plan import MaskedPlan
from flowbench.transforms.univariate import Univariate


def hidden_degrees(units: int, dim: int) -> Tensor:
    """Degrees (units,) of a hidden layer, sorted, between 1 and D − 1.

    The multiset is that of the MAF paper's code, 1 + (h mod (D − 1)), wherever that reaches every degree. With fewer
    units than degrees it would cut the network off from the last columns; there the degrees are spread evenly instead.
    """
    highest = max(dim - 1, 1)  # one column: hidden units see it, and no output sees them
    unit = torch.arange(units, device="cpu")  # degrees are layout, wherever the weights are made
    if units < highest:
        return 1 + unit * highest // units
    return (1 + unit % highest).sort().values


class MADE(Network):
    """The masked conditioner: x (N, D) to ``univariate.parameters`` tensors (N, D); column i of each sees x_<i only.

    Germain et al. 2015, Masked Autoencoder for Distribution Estimation.
    """

    starts: Tensor
    biases: Tensor
    visible: Tensor

    def __init__(
        self, dim: int, hidden: Sequence[int], univariate: Univariate, activation: str | Activation = "relu"
    ) -> None:
        inner = [hidden_degrees(units, dim) for units in hidden]
        outputs = torch.arange(dim, device="cpu").repeat_interleave(univariate.parameters)
        degrees = [torch.arange(1, dim + 1, device="cpu"), *inner, outputs]
        super().__init__(degrees, activation, fan_in=dim)  # masked inputs count too, as in the paper's code
        self.dim = dim
        self.univariate = univariate
        # inputs and hidden units of degree i belong to column i, counted from 1; outputs to the next one
        columns = [*(level - 1 for level in degrees[:-1]), outputs]
        self.masked_plan = MaskedPlan(self.plan, univariate, _visible(columns, dim))
        starts, biases = self.packing.places()
        self.register_buffer("starts", starts, persistent=False)
        self.register_buffer("biases", biases, persistent=False)
        self.register_buffer("visible", torch.from_numpy(self.masked_plan.visible), persistent=False)

    def parameters_of(self, x: Tensor, layers: Sequence[tuple[Tensor, Tensor]] | None = None) -> tuple[Tensor, ...]:
        """The univariate map's parameters for every column, each (N, D), from x (N, D)."""
        return self.through(x, layers or self.layers()).unflatten(-1, (self.dim, self.univariate.parameters)).unbind(-1)


def _visible(columns: Sequence[Tensor], dim: int) -> np.ndarray:
    """``MaskedPlan.visible``, from the column to which each unit of each level belongs, counted from 0."""
    tops = np.cumsum([0, *map(len, columns)])[:-1]
    found = [np.searchsorted(level.numpy(), np.arange(dim + 1)) for level in columns]
    return np.stack(found) + tops[:, None]
