"""MADE: a network whose output for column i depends on the columns before i alone (Germain et al. 2015).

Every unit has a degree: input column i (counted from 1) has degree i, the outputs for column i have degree i − 1, and a
connection is allowed from a unit to units of the same or a higher degree. Units are kept sorted by degree, outputs too
(all for the first column, then all for the second). That only renames units, and it makes every weight matrix block
lower triangular: ``substitution`` lives on that, and ``packing`` leaves out most of what is zero. A context has degree
0, and so do some hidden units then: all columns may depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from flowbench.transforms.network import Body, Network
from flowbench.transforms.plan import MaskedPlan
from flowbench.transforms.univariate import Univariate


def hidden_degrees(units: int, dim: int, lowest: int = 1) -> Tensor:
    """Degrees (units,) of a hidden layer, sorted, between the lowest and D − 1.

    The multiset is that of the MAF paper's code, 1 + (h mod (D − 1)), wherever that reaches every degree. With fewer
    units than degrees it would cut the network off from the last columns; there the degrees are spread evenly instead.
    """
    highest = max(dim - lowest, 1)  # one column: hidden units see it, and no output sees them
    unit = torch.arange(units, device="cpu")  # degrees are layout, wherever the weights are made
    if units < highest:
        return lowest + unit * highest // units
    return (lowest + unit % highest).sort().values


class MADE(Network):
    """The masked conditioner: x (N, D) to ``univariate.parameters`` tensors (N, D); column i of each sees x_<i only.

    Germain et al. 2015, Masked Autoencoder for Distribution Estimation. A ``context`` of so many numbers is seen by all
    columns: the network then reads (N, context + D).
    """

    starts: Tensor
    biases: Tensor
    visible: Tensor

    def __init__(self, dim: int, body: Body, univariate: Univariate, context: int = 0) -> None:
        lowest = 0 if context else 1
        columns = torch.arange(1, dim + 1, device="cpu")
        inputs = torch.cat([columns.new_zeros(context), columns])
        inner = [hidden_degrees(units, dim, lowest) for units in body.layers]
        outputs = (columns - 1).repeat_interleave(univariate.parameters)
        super().__init__([inputs, *inner, outputs], body, fan_in=context + dim)  # masked inputs count, as in the paper
        self.dim, self.context = dim, context
        self.univariate = univariate
        # a unit of degree d is known once step d is, counted from the lowest degree; outputs belong to the step after
        steps = [*(level - lowest for level in (inputs, *inner)), outputs + 1 - lowest]
        self._visible = _visible(steps, dim + (context > 0))
        self._masked_plans = tuple(MaskedPlan(plan, univariate, self._visible, context) for plan in self._plans)
        starts, biases = self.packing.places()
        self.register_buffer("starts", starts, persistent=False)
        self.register_buffer("biases", biases, persistent=False)
        self.register_buffer("visible", torch.from_numpy(self._visible), persistent=False)
        self.begin(univariate.start(torch.zeros(dim), torch.ones(dim)).t().flatten(), univariate.start_share)

    @property
    def masked_plan(self) -> MaskedPlan:
        """The network's, with the univariate map."""
        return self._masked_plans[self.training]

    def parameters_of(self, x: Tensor, layers: Sequence[tuple[Tensor, Tensor]] | None = None) -> Tensor:
        """The univariate map's parameters θ (P, N, D) for every column, from x (N, D), or from (N, context + D)."""
        outputs = self.through(x, layers or self.layers())
        return outputs.unflatten(-1, (self.dim, self.univariate.parameters)).movedim(-1, 0)


def _visible(steps: Sequence[Tensor], count: int) -> np.ndarray:
    """``MaskedPlan.visible``, from the step to which each unit of each level belongs, counted from 0."""
    tops = np.cumsum([0, *map(len, steps)])[:-1]
    found = [np.searchsorted(level.numpy(), np.arange(count + 1)) for level in steps]
    return np.stack(found) + tops[:, None]
