"""Activation normalisation as a transform."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowbench.transforms.transform import LEAST_VARIANCE, Pair, WithStart


class ActNorm(WithStart):
    """u = (x − b)·exp(s), log_det = Σ s (Kingma and Dhariwal 2018, "Glow", §3.1).

    b and s are learned, and begin where the first rows have mean 0 and variance 1. Rows never see each other.
    """

    reach = "own"

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(dim))
        self.log_scale = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Pair:
        """x (N, D) to (u, log_det)."""
        return (x - self.shift) * self.log_scale.exp(), self.log_scale.sum().expand(len(x))

    def by_column(self, x: Tensor) -> Pair:
        """x (N, D) to (u, s)."""
        return self(x)[0], self.log_scale.expand_as(x)

    def inverse(self, u: Tensor) -> Pair:
        """u (N, D) to (x, log_det)."""
        return u * torch.exp(-self.log_scale) + self.shift, -self.log_scale.sum().expand(len(u))

    @torch.no_grad()
    def begin(self, mean: Tensor, variance: Tensor) -> None:
        """Take the mean and the biased variance (D,) of the rows that arrive."""
        self.shift.copy_(mean)
        self.log_scale.copy_(-0.5 * variance.clamp(min=LEAST_VARIANCE).log())
