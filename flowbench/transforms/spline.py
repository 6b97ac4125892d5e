"""Monotone rational-quadratic splines."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from flowbench.transforms.univariate import Univariate

LEAST = 1e-3
"""Of a bin's width and height, as shares of the whole, and of a slope."""

SLOPE_OF_ONE = math.log(math.expm1(1 - LEAST))
"""What is added to raw slopes, so that 0 is a slope of 1."""


class RationalQuadraticSpline(Univariate):
    """K bins between −B and B, in each a quotient of two quadratics; beyond them the identity (Durkan et al. 2019).

    θ are the K widths and the K heights of the bins, before a softmax, and the K − 1 slopes between them, before a
    softplus; at the ends the slope is 1. Both directions are closed-form: eqs. 4–8 and 29–32 of "Neural Spline Flows".
    A zero of all parameters is the identity, and training begins near it.
    """

    start_share = 0.1

    def __init__(self, bins: int, bound: float) -> None:
        self.bins, self.bound = bins, bound
        self.parameters = 3 * bins - 1

    def forward(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """x to (u, log|∂u/∂x|)."""
        inside = x.abs() < self.bound
        (x0, width), (y0, height), (d0, d1) = self._bin(x.clamp(-self.bound, self.bound), theta, by_height=False)
        t = ((x.clamp(-self.bound, self.bound) - x0) / width).clamp(0, 1)
        slope, both = height / width, t * (1 - t)
        bottom = slope + (d0 + d1 - 2 * slope) * both
        u = y0 + height * (slope * t * t + d0 * both) / bottom
        return torch.where(inside, u, x), torch.where(inside, _log_slope(slope, d0, d1, t, bottom), 0)

    def inverse(self, u: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """u to (x, log|∂x/∂u|)."""
        inside = u.abs() < self.bound
        held = u.clamp(-self.bound, self.bound)
        (x0, width), (y0, height), (d0, d1) = self._bin(held, theta, by_height=True)
        slope, y = height / width, (held - y0).clamp(min=0)
        excess = y * (d0 + d1 - 2 * slope)
        a, b, c = height * (slope - d0) + excess, height * d0 - excess, -slope * y
        # the root between 0 and 1, in the form that does not cancel
        t = (2 * c / (-b - torch.sqrt((b * b - 4 * a * c).clamp(min=0)))).clamp(0, 1)
        bottom = slope + (d0 + d1 - 2 * slope) * t * (1 - t)
        x = x0 + t * width
        return torch.where(inside, x, u), torch.where(inside, -_log_slope(slope, d0, d1, t, bottom), 0)

    def _bin(
        self, place: Tensor, theta: Tensor, by_height: bool
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Of the bin that a place lies in: (left edge, width), (lower edge, height), (slopes at both ends)."""
        widths, heights, slopes = theta.split([self.bins, self.bins, self.bins - 1])
        edges, levels = self._edges(widths), self._edges(heights)
        end = torch.zeros_like(edges[:1])  # a slope of 1
        slopes = torch.cat([end, slopes, end])
        known = levels if by_height else edges
        index = (known[1:-1] <= place).sum(0, keepdim=True)

        def pair(values: Tensor) -> tuple[Tensor, Tensor]:
            return values.gather(0, index)[0], values.gather(0, index + 1)[0]

        (left, right), (lower, upper), (d0, d1) = pair(edges), pair(levels), pair(slopes)
        return (left, right - left), (lower, upper - lower), (_slope(d0), _slope(d1))

    def _edges(self, raw: Tensor) -> Tensor:
        """The K + 1 edges of bins, from −B to B exactly."""
        shares = LEAST + (1 - LEAST * self.bins) * raw.softmax(0)
        inner = shares[:-1].cumsum(0) * (2 * self.bound) - self.bound
        end = torch.full_like(raw[:1], self.bound)
        return torch.cat([-end, inner, end])


def _slope(raw: Tensor) -> Tensor:
    """A slope of its raw parameter: 1 of 0."""
    return LEAST + softplus(raw + SLOPE_OF_ONE)


def _log_slope(slope: Tensor, d0: Tensor, d1: Tensor, t: Tensor, bottom: Tensor) -> Tensor:
    """Eq. 5: of the derivative at t in [0, 1] within a bin."""
    top = d1 * t * t + 2 * slope * t * (1 - t) + d0 * (1 - t) * (1 - t)
    return 2 * slope.log() + top.log() - 2 * bottom.log()
