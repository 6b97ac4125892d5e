"""The coupling transform: half of the columns pass, and say how the other half moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from flowbench.transforms.network import Body, Network
from flowbench.transforms.plan import CouplingConstants, CouplingPlan
from flowbench.transforms.transform import Pair, Transform, beside
from flowbench.transforms.univariate import Univariate


def dense(inputs: int, body: Body, outputs: int, fan_in: int) -> Network:
    """A network without masks: all its units have one degree."""
    return Network([torch.zeros(units) for units in (inputs, *body.layers, outputs)], body, fan_in)


class Coupling(Transform):
    """x_B to u_B = f(x_B; θ(x_A)), x_A unchanged (Dinh et al. 2017, eqs. 4–8; sign and order as MAF's).

    A are the columns (counted from 0) of one parity, B the others; f is any univariate map. The ``networks`` read x_A
    and give, one after the other, the map's parameters, each of all columns of B: one network may give all of them,
    or a network each. A ``context`` of so many numbers, if there is one, comes before x_A.
    """

    density_passes = 1
    sampling_passes = 1
    passed: Tensor
    moved: Tensor
    merged: Tensor

    def __init__(
        self, dim: int, parity: int, univariate: Univariate, networks: Sequence[Network], context: int = 0
    ) -> None:
        super().__init__()
        self.context = context
        columns = torch.arange(dim)
        passed, moved = columns[columns % 2 == parity], columns[columns % 2 != parity]
        self.register_buffer("passed", passed, persistent=False)
        self.register_buffer("moved", moved, persistent=False)
        self.register_buffer("merged", torch.cat([passed, moved]).argsort(), persistent=False)
        self.univariate = univariate
        self.networks = nn.ModuleList(networks)
        outputs = sum(network.outputs for network in networks)
        inputs = context + len(passed)
        if outputs != univariate.parameters * len(moved) or {network.inputs for network in networks} != {inputs}:
            wanted = f"{inputs} columns to {univariate.parameters} parameters of {len(moved)}"
            raise ValueError(f"the networks of a coupling of {dim} columns lead from {wanted}")
        start = univariate.start(torch.zeros(len(moved)), torch.ones(len(moved))).flatten()
        for network, part in zip(networks, start.split([network.outputs for network in networks]), strict=True):
            network.begin(part, univariate.start_share)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """u_B = f(x_B; θ(x_A)), log_det = Σ log|∂f/∂x_B|."""
        passed, u, log_derivative = self._moved(x, context)
        return torch.cat([passed, u], 1)[:, self.merged], log_derivative.sum(-1)

    def by_column(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """u_B = f(x_B; θ(x_A)), and log|∂f/∂x_i| (N, D), 0 of what passes."""
        passed, u, log_derivative = self._moved(x, context)
        slopes = torch.cat([torch.zeros_like(passed), log_derivative], 1)
        return torch.cat([passed, u], 1)[:, self.merged], slopes[:, self.merged]

    def _moved(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """x_A, u_B and log|∂f/∂x_B|."""
        passed, moved = x[:, self.passed], x[:, self.moved]
        return passed, *self.univariate.forward(moved, self._parameters_of(beside(context, passed)))

    def inverse(self, u: Tensor, context: Tensor | None = None) -> Pair:
        """x_B = f⁻¹(u_B; θ(u_A)): the networks see what passes."""
        passed, moved = u[:, self.passed], u[:, self.moved]
        x, log_derivative = self.univariate.inverse(moved, self._parameters_of(beside(context, passed)))
        return torch.cat([passed, x], 1)[:, self.merged], log_derivative.sum(-1)

    def _parameters_of(self, seen: Tensor) -> Tensor:
        outputs = torch.cat([network(seen) for network in self._networks()], 1)
        return outputs.unflatten(1, (self.univariate.parameters, len(self.moved))).movedim(1, 0)

    def _networks(self) -> list[Network]:
        return cast("list[Network]", list(self.networks))

    @property
    def plan(self) -> CouplingPlan:
        """The networks', with the univariate map."""
        return CouplingPlan(tuple(network.plan for network in self._networks()), self.univariate, self.context)

    def weights(self) -> list[Tensor]:
        """Each network's weights and biases."""
        return [network.flat for network in self._networks()]

    def constants(self) -> CouplingConstants:
        """The orders of columns, and the networks' masks."""
        masks = tuple(network.masks for network in self._networks())
        return CouplingConstants(self.passed, self.moved, self.merged, masks)
