"""Whole flows against independent code: with the same weights, the same log-density."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from flowbench.flows import Flow
from flowbench.transforms import Body, Chain, MaskedAutoregressive, Permutation, Univariate

zuko = pytest.importorskip("zuko", reason="needs zuko")

DIM, HIDDEN = 5, (24, 17)


class Theirs(Univariate):
    """zuko's affine map: u = x·exp(a) + b, with a = s / (1 + |s / log(1e-3)|) and θ = (b, s)."""

    parameters = 2

    def forward(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        log_scale = theta[1] / (1 + (theta[1] / math.log(1e-3)).abs())
        return x * log_scale.exp() + theta[0], log_scale


@torch.no_grad()
def copied(network: nn.Module, transform: MaskedAutoregressive, order: Tensor) -> None:
    """Give ours their weights: their units sorted by degree, their columns in the order that ours take them in."""
    layers = [layer for layer in network if hasattr(layer, "mask")]
    outputs = torch.arange(2 * DIM).view(DIM, 2)[order].flatten()
    degrees = [1 + torch.arange(units) % (DIM - 1) for units in HIDDEN]
    units = [order, *(degree.sort(stable=True).indices for degree in degrees), outputs]
    state = {}
    for level, layer in enumerate(layers):
        weight, bias = layer.weight * layer.mask, layer.bias
        state[f"{level}.weight"] = weight[units[level + 1]][:, units[level]]
        state[f"{level}.bias"] = bias[units[level + 1]]
    transform.conditioner.load_state_dict(state)  # weights where ours forbids them would be refused


@pytest.mark.parametrize("transforms", [1, 3], ids=["MADE", "MAF"])
def test_a_log_density_is_zukos(transforms: int) -> None:
    torch.manual_seed(0)
    theirs = zuko.flows.MAF(DIM, transforms=transforms, hidden_features=HIDDEN)
    steps = [MaskedAutoregressive(DIM, Body(HIDDEN), Theirs()) for _ in range(transforms)]
    between = [Permutation.reverse(DIM) for _ in range(transforms)]
    ours = Flow(DIM, Chain([part for pair in zip(steps, between, strict=True) for part in pair]))
    for index, (step, their) in enumerate(zip(steps, theirs.transform.transforms, strict=True)):
        copied(their.hyper, step, torch.arange(DIM) if index % 2 == 0 else torch.arange(DIM).flip(0))
    x = 2 * torch.randn(40, DIM)
    expected = theirs().log_prob(x)
    assert expected.std() > 0.5
    torch.testing.assert_close(ours.log_prob(x), expected, rtol=1e-5, atol=1e-5)
