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

    def draw(self, noise: Tensor, theta: Tensor) -> Tensor:
        """x (...) of random numbers (``draws``, ...)."""
        return self.inverse(noise[0], theta)[0]

    def start(self, mean: Tensor, scale: Tensor) -> Tensor:
        """Parameters (P, ...) to begin training with, for numbers of this mean and standard deviation (...)."""
        return torch.zeros(self.parameters, *mean.shape)


def standard_normal(u: Tensor) -> Tensor:
    """The log-density of N(0, 1) at u in nats, elementwise."""
    return -0.5 * u.square() - LOG_SQRT_2PI
