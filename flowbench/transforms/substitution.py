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
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

if TYPE_CHECKING:
    from flowbench.transforms.made import MADE


def substitute(made: MADE, u: Tensor) -> tuple[Tensor, Tensor]:
    """Invert the autoregressive transform that ``made`` conditions: u (N, D) to x (N, D), log|det ∂x/∂u| (N,)."""
    plan, layers = made.masked_plan, made.layers()
    units = [[slice(a, b) for a, b in pairwise(row)] for row in plan.visible - plan.visible[:, :1]]
    known = [u[:, :0]] * len(layers)  # what is known of each level but the outputs: x, then the hidden layers
    log_det = u.new_zeros(len(u))
    for step in range(made.dim):
        (weight, bias), own = layers[-1], units[-1][step]
        theta = F.linear(known[-1], weight[own, : known[-1].shape[1]], bias[own])
        x, log_derivative = made.univariate.inverse(u[:, step], theta.unbind(-1))
        log_det = log_det + log_derivative
        known[0] = torch.cat([known[0], x[:, None]], 1)
        for level, (weight, bias) in enumerate(layers[:-1], start=1):  # the hidden units that x completes
            own, below = units[level][step], known[level - 1]
            h = made.activation(F.linear(below, weight[own, : below.shape[1]], bias[own]))
            known[level] = torch.cat([known[level], h], 1)
    return known[0], log_det
