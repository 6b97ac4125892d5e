"""Whitening as a transform."""

from __future__ import annotations

import torch
from torch import Tensor

from flowbench.transforms.transform import Pair, Transform


class Whitening(Transform):
    """u = L⁻¹(x − m), with m a mean and L the Cholesky factor of a covariance; log_det = −Σ log L_ii.

    L is lower triangular: u_i depends on the columns up to the i-th alone, and is that column's standardised residual
    once the columns before it have predicted it linearly.
    """

    mean: Tensor
    factor: Tensor
    reach = "before"

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("factor", torch.eye(dim))

    def forward(self, x: Tensor) -> Pair:
        """x (N, D) to (u, log_det)."""
        u = torch.linalg.solve_triangular(self.factor, (x - self.mean).t(), upper=False).t()
        return u, -self._log_volume().expand(len(x))

    def by_column(self, x: Tensor) -> Pair:
        """x (N, D) to (u, −log L_ii)."""
        return self(x)[0], -self.factor.diagonal().log().expand_as(x)

    def inverse(self, u: Tensor) -> Pair:
        """u (N, D) to (x, log_det)."""
        return u @ self.factor.t() + self.mean, self._log_volume().expand(len(u))

    def _log_volume(self) -> Tensor:
        return self.factor.diagonal().log().sum()
