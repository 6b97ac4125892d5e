"""A kernel density estimate: a Gaussian at each training row, up to so many (Rosenblatt 1956, Parzen 1962).

The kernels' width is a share of each column's standard deviation, chosen on validation rows.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from flowbench.config import FlowOptions
from flowbench.data.rows import Rows
from flowbench.flows import Flow
from flowbench.transforms import Undirected
from flowbench.transforms.univariate import LOG_SQRT_2PI

SHARES = tuple(2.0**step for step in torch.arange(-7, 1.5, 0.5).tolist())
"""Of a standard deviation, the widths that are tried."""

VALUES = 1 << 24
"""Distances at a time."""


class Options(FlowOptions):
    """How large it may become."""

    kernels: int = Field(10_000, ge=1, description="Training rows at the most that get a kernel: the first ones.")


class Kernels(Undirected):
    """p(x) = (1/C) Σ_c Π_i N(x_i; m_ci, h_i); rows m_c that are NaN are none."""

    centres: Tensor
    widths: Tensor
    draws = 2

    def __init__(self, dim: int, kernels: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.full((kernels, dim), torch.nan))
        self.centres[0] = 0
        self.register_buffer("widths", torch.ones(dim))

    def density(self, x: Tensor) -> Tensor:
        """log p(x) (N,) of x (N, D)."""
        centres = self._scaled()
        parts = (x / self.widths).split(max(1, VALUES // len(centres)))
        sums = [torch.logsumexp(-0.5 * torch.cdist(part, centres).square(), 1) for part in parts]
        volume = self.widths.log().sum() + len(self.widths) * LOG_SQRT_2PI
        return torch.cat(sums) - volume - math.log(len(centres))

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """A kernel by a uniform number of each row, and a draw of it."""
        normal, uniform = noise
        centres = self._scaled()
        chosen = (uniform[:, 0] * len(centres)).long().clamp_max(len(centres) - 1)
        x = (centres[chosen] + normal) * self.widths
        return x, self.density(x)

    def _scaled(self) -> Tensor:
        return self.centres[~self.centres[:, 0].isnan()] / self.widths


class KernelFlow(Flow):
    """The density whose only part is `Kernels`. It has no parameters to descend on."""

    transform: Kernels

    def fit_closed_form(self, x: Rows, validation: Rows) -> None:
        """The first training rows, and the width that is best on ``validation``."""
        own = self.transform
        rows, held = x[: len(own.centres)], validation[: len(own.centres)]
        own.centres.fill_(torch.nan)
        own.centres[: len(rows)] = rows
        scale = rows.std(0, correction=0).clamp(min=1e-6)

        def reached(share: float) -> float:
            own.widths.copy_(share * scale)
            return float(own.density(held).double().mean())

        own.widths.copy_(max(SHARES, key=reached) * scale)


def build(dim: int, options: Options) -> Flow:
    """A kernel density estimate over rows of ``dim`` columns, of one kernel until it is fitted."""
    return KernelFlow(dim, Kernels(dim, options.kernels))
