"""Substitution: the inverse of a masked autoregressive transform for the arithmetic of half a pass, not D passes.

The textbook inverse of u_i = f(x_i; θ_i(x_<i)) runs the whole network D times and keeps one column of each run. But
with units sorted by degree every weight matrix is block lower triangular: once x_1..x_d are known, the hidden units of
degree d are known for good, and with them θ_{d+1} and x_{d+1}. So each weight is used once, in D short steps. It is
forward substitution with a triangular matrix that happens to be a network.

Here it stands in torch's differentiable calls, as its equations. `flowbench.engines` runs the same steps blocked, as a
triangular solve is, with the gradient found by the same substitution on the transposed network.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

if TYPE_CHECKING:
    from flowbench.transforms.made import MADE


def substitute(made: MADE, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Invert the autoregressive transform that ``made`` conditions: u (N, D) to x (N, D), log|det ∂x/∂u| (N,).

    A context (N, C) is known before the first column, and with it the hidden units of degree 0.
    """
    plan, layers = made.masked_plan, made.layers()
    network = plan.network
    units = [[slice(a, b) for a, b in pairwise(row)] for row in plan.visible - plan.visible[:, :1]]
    known = [u[:, :0]] * len(layers)  # what is known of each level but the outputs: x, then the hidden layers
    sums = list(known)  # theirs before the activation, where blocks carry them on
    log_det = u.new_zeros(len(u))
    for step in range(plan.steps):
        if step < plan.first:
            x = cast("Tensor", context)
        else:
            (weight, bias), own = layers[-1], units[-1][step]
            theta = F.linear(known[-1], weight[own, : known[-1].shape[1]], bias[own])
            x, log_derivative = made.univariate.inverse(u[:, step - plan.first], theta.t())
            x, log_det = x[:, None], log_det + log_derivative
        known[0] = torch.cat([known[0], x], 1)
        for level, (weight, bias) in enumerate(layers[:-1], start=1):  # the hidden units that x completes
            own, below = units[level][step], known[level - 1]
            z = F.linear(below, weight[own, : below.shape[1]], bias[own])
            if network.is_stream(level):
                z = z + sums[level - 2][:, own] if level > 1 else z
                sums[level] = torch.cat([sums[level], z], 1)
            h = made.activation(z)
            known[level] = torch.cat([known[level], F.dropout(h, network.dropout) if network.drops(level) else h], 1)
    return known[0][:, plan.context :], log_det
