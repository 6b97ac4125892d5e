"""The gated map."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from flowbench.transforms.univariate import Univariate


class Gated(Univariate):
    """u = σ(s)·x + (1 − σ(s))·m, with θ = (m, s) and the logistic function σ (IAF paper, algorithm 1, eqs. 13–14).

    The gate σ(s) says how much of x is kept; the rest is m. ``start`` keeps most: the paper has s begin at 1 or 2, so
    that what is drawn is at first moved a little at each step. Whatever s, σ(s) < 1: the map narrows in this direction
    and widens in the other, where no bound holds a row back. So without normalisation a row's density under a MAF is
    never above that of its noise, and under an IAF never below.

    Both are written without a quotient: 1 − σ(s) = σ(−s), and 1/σ(s) = 1 + exp(−s).
    """

    parameters = 2

    def __init__(self, bias: float = 2.0) -> None:
        self.bias = bias

    def start(self, mean: Tensor, scale: Tensor) -> Tensor:
        """m = 0, and a gate that is nearly open."""
        return torch.stack([torch.zeros_like(mean), torch.full_like(mean, self.bias)])

    def forward(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """x to (u, log σ(s))."""
        proposed, gate = theta
        return torch.sigmoid(gate) * x + torch.sigmoid(-gate) * proposed, logsigmoid(gate)

    def inverse(self, u: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """u to (x, −log σ(s)): x = u + exp(−s)·(u − m)."""
        proposed, gate = theta
        return u + torch.exp(-gate) * (u - proposed), -logsigmoid(gate)
