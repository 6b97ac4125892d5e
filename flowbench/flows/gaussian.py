"""A Gaussian with full covariance, fitted in closed form: the yardstick that every table of the MAF paper starts with.

It costs a second, and its value on a benchmark dataset is known: another one means other preprocessing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowbench.config import FlowOptions
from flowbench.data import fit_gaussian
from flowbench.data.rows import Rows
from flowbench.flows import Flow
from flowbench.transforms import Pair, Transform

ROWS = 50_000
"""Taken at a time."""


class Options(FlowOptions):
    """There is nothing to choose."""


class Whitening(Transform):
    """u = L⁻¹(x − m), with L the Cholesky factor of the covariance; log_det = −Σ log L_ii."""

    mean: Tensor
    factor: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("factor", torch.eye(dim))

    def forward(self, x: Tensor) -> Pair:
        """x (N, D) to (u, log_det)."""
        u = torch.linalg.solve_triangular(self.factor, (x - self.mean).t(), upper=False).t()
        return u, -self._log_volume().expand(len(x))

    def inverse(self, u: Tensor) -> Pair:
        """u (N, D) to (x, log_det)."""
        return u @ self.factor.t() + self.mean, self._log_volume().expand(len(u))

    def _log_volume(self) -> Tensor:
        return self.factor.diagonal().log().sum()


class GaussianFlow(Flow):
    """The flow whose only transform is a whitening. It has no parameters to descend on."""

    transform: Whitening

    def fit_closed_form(self, x: Rows, validation: Rows) -> None:
        """Maximum likelihood on x (N, D): sample mean and biased covariance, in float64 on the CPU.

        Raises:
            DataError: the covariance is singular: a column is a combination of others, or there are too few rows.
        """
        mean, factor = fit_gaussian(lambda: (part.cpu().numpy() for part in x.split(ROWS)))
        self.transform.mean.copy_(torch.from_numpy(mean))
        self.transform.factor.copy_(torch.from_numpy(factor))


def build(dim: int, options: Options) -> Flow:
    """A Gaussian over rows of ``dim`` columns, standard until it is fitted."""
    return GaussianFlow(dim, Whitening(dim))
