"""MADE: a network whose output for column i depends on the columns before i alone (Germain et al. 2015).

Every unit has a degree: input column i (counted from 1) has degree i, the outputs for column i have degree i − 1, and a
connection is allowed from a unit to units of the same or a higher degree. Units are kept sorted by degree, outputs too
(all for the first column, then all for the second). That only renames units, and it makes every weight matrix block
lower triangular: ``substitution`` lives on that, and ``strips`` leave out most of what is zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowbench.transforms.network import ActivationName, Network
from flowbench.transforms.pointwise import per_parameter
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


class MADE(Network):
    """The masked conditioner: x (N, D) to ``univariate.parameters`` tensors (N, D); column i of each sees x_<i only.

    Germain et al. 2015, Masked Autoencoder for Distribution Estimation. A state with weights that the masks forbid is
    refused.
    """

    weight_starts: Tensor
    step_starts: Tensor

    def __init__(
        self, dim: int, hidden: Sequence[int], univariate: Univariate, activation: ActivationName = "relu"
    ) -> None:
        inner = [hidden_degrees(units, dim) for units in hidden]
        outputs = torch.arange(dim).repeat_interleave(univariate.parameters)
        degrees = [torch.arange(1, dim + 1), *inner, outputs]
        cuts = [dim * strip // STRIPS for strip in range(1, STRIPS)]
        layers = [Layer(a, b, cuts if len(a) * len(b) >= STRIPPED else []) for a, b in pairwise(degrees)]
        super().__init__(layers, activation, fan_in=dim)  # masked inputs count too, as in the paper's code
        self.dim = dim
        self.univariate = univariate
        self.schedule = Schedule(inner, dim, univariate.parameters)
        self.level_sizes = [layer.shape[0] for layer in self.layers]
        self.units = sum(self.level_sizes)
        self.shapes = tuple(layer.shape for layer in self.layers)
        self.whole = all(len(layer.strips) == 1 for layer in self.layers)
        starts, steps = self._places()
        self.register_buffer("weight_starts", starts, persistent=False)
        self.register_buffer("step_starts", steps, persistent=False)

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

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The univariate map's parameters for every column, each (N, D)."""
        if torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
            return self.plain(x).view(len(x), self.dim, self.univariate.parameters).unbind(-1)
        theta, _ = self.vjp(x.t().contiguous())
        return tuple(parameter.t() for parameter in per_parameter(theta, self.univariate.parameters))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        flat = state_dict.get(prefix + "flat")
        if flat is not None and flat.shape == self.flat.shape:
            for layer, weights in zip(self.layers, self.unpack(flat)[0], strict=True):
                if layer.dense(weights)[layer.mask().to(flat.device) == 0].any():
                    error_msgs: list[str] = rest[-1]
                    error_msgs.append(f"{prefix}flat: weights that the mask forbids are not zero")
        super()._load_from_state_dict(state_dict, prefix, *rest)
