"""The halves of a coupling's columns, and the networks that read one for the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from flowbench.engines.eager.network import Elementwise, Network, apart, beside
from flowbench.engines.interface import Stage
from flowbench.transforms.plan import CouplingConstants, CouplingPlan


class Halves:
    """What passes a coupling, what it moves, and the parameters θ (M·P, N) that its networks give for that."""

    def __init__(self, way: Elementwise, plan: CouplingPlan, stage: Stage, x: Tensor) -> None:
        self._stage, self._constants = stage, cast("CouplingConstants", stage.constants)
        self.passed, self.moved = self.part(x)
        seen = beside(stage, self.passed)
        self._networks = [
            Network(way, network, flat, seen) for network, flat in zip(plan.networks, stage.weights, strict=False)
        ]
        self._shape = None if plan.by_column else (plan.univariate.parameters, *self.moved.shape)
        outputs = torch.cat([network.outputs for network in self._networks])
        self.theta = outputs if self._shape is None else outputs.view(self._shape).transpose(0, 1).flatten(0, 1)

    def pull(self, grad_theta: Tensor, out: Sequence[Tensor]) -> Tensor:
        """The cotangent of what passes from that of θ; the networks' gradients are written to ``out``."""
        grad_outputs = grad_theta
        if self._shape is not None:
            parameters, moved, rows = self._shape
            grad_outputs = grad_theta.view(moved, parameters, rows).transpose(0, 1).flatten(0, 1)
        parts = grad_outputs.split([len(network.outputs) for network in self._networks])
        own = out[: len(self._networks)]
        pulled = [
            network.pull(part, masks, gradient)
            for network, part, masks, gradient in zip(self._networks, parts, self._constants.masks, own, strict=True)
        ]
        return apart(self._stage, sum(pulled[1:], start=pulled[0]), out)

    def part(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The columns (rows of memory) that pass, and those that move."""
        return x.index_select(0, self._constants.passed), x.index_select(0, self._constants.moved)

    def merge(self, passed: Tensor, moved: Tensor) -> Tensor:
        """Both in the order of the columns."""
        return torch.cat([passed, moved]).index_select(0, self._constants.merged)
