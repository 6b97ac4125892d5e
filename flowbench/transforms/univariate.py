"""Maps of one number to another, given parameters that a conditioner computes from other columns."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class Univariate:
    """An invertible map of single numbers, x to u, elementwise over tensors of any shape.

    ``forward(x, θ)`` and ``inverse(u, θ)`` return the image and the elementwise log-derivative of *that* direction; θ
    (P, ...) holds the map's ``parameters``, each shaped like x. A new map is one class with these three: it serves
    every flow, in both directions and in training.

    ``density`` and ``draw`` are of a column that is standard normal once it is mapped. A map for which they are less
    work than the map itself overrides them.
    """

    parameters: int
    start_share: float = 1.0
    """Of their usual size, that of the weights which give its parameters when training begins."""
    draws: int = 1
    """Random numbers that ``draw`` takes: the first is standard normal, a second uniform on [0, 1)."""

    def forward(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """x to (u, log|∂u/∂x|)."""
        raise NotImplementedError

    def inverse(self, u: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """u to (x, log|∂x/∂u|)."""
        raise NotImplementedError

    def density(self, x: Tensor, theta: Tensor) -> Tensor:
        """The log-density of x in nats, elementwise."""
        u, log_derivative = self.forward(x, theta)
        return log_derivative + standard_normal(u)

    def log_mass(self, low: Tensor, high: Tensor, theta: Tensor) -> Tensor:
        """The log-probability, elementwise, of what lies between two numbers."""
        return log_normal_mass(self.forward(low, theta)[0], self.forward(high, theta)[0])

    def draw(self, noise: Tensor, theta: Tensor) -> Tensor:
        """x (...) of random numbers (``draws``, ...)."""
        return self.inverse(noise[0], theta)[0]

    def start(self, mean: Tensor, scale: Tensor) -> Tensor:
        """Parameters (P, ...) to begin training with, for numbers of this mean and standard deviation (...)."""
        return torch.zeros(self.parameters, *mean.shape)


NARROW = 1e-2
"""Standard deviations below which a mass is the density in the middle times the width: to a relative 1e-5, which is
what a difference of CDFs has left there in single precision."""


def log_normal_mass(low: Tensor, high: Tensor) -> Tensor:
    """log(Φ(high) − Φ(low)), elementwise, for low < high: in the lower tail, where a CDF has all of its digits."""
    above = low + high > 0
    low, high = torch.where(above, -high, low), torch.where(above, -low, high)
    width = (high - low).clamp(min=torch.finfo(low.dtype).tiny)
    narrow = width < NARROW
    # both ways have gradients, and that of the one not taken must be finite, too
    log_cdf = torch.special.log_ndtr(torch.where(narrow, low + NARROW, high))
    wide = log_cdf + torch.log(-torch.expm1((torch.special.log_ndtr(low) - log_cdf).clamp(max=-1e-30)))
    return torch.where(narrow, standard_normal((low + high) / 2) + width.log(), wide)


def standard_normal(u: Tensor) -> Tensor:
    """The log-density of N(0, 1) at u in nats, elementwise."""
    return -0.5 * u.square() - LOG_SQRT_2PI
