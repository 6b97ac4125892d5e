"""The affine map."""

from __future__ import annotations

import torch
from torch import Tensor

from flowbench.transforms.univariate import Univariate


class Affine(Univariate):
    """u = (x − μ)·exp(−α), with θ = (μ, r) and the log-scale α = gain·r (MAF paper, eqs. 3–5).

    MAF's networks give the log-precision (a gain of −1/2, as in the paper's code), RealNVP's the log-scale (a gain of
    1). With a ``bound`` b, α is squashed smoothly into (−b, b): b·tanh(α/b). Without one, a row in a direction
    that training rows never took is stretched without limit, and one such row decides the mean over ten thousand. The
    default of MAF's flows was chosen on validation rows: MNIST's have −1281.3 nats at b = 2 and −1283.6 without a bound
    (five transforms, recipe fast); POWER does not care.

    ``from_rows``: training begins nearly without weights, where each column has mean 0 and variance 1. It is for a
    network that no normalisation goes before: an epoch of MNIST then brings a MADE to −1520 nats and not to −1637.
    """

    parameters = 2

    def __init__(self, bound: float | None = None, gain: float = -0.5, from_rows: bool = False) -> None:
        self.bound = bound
        self.gain = gain
        self.from_rows = from_rows
        self.start_share = 0.1 if from_rows else 1.0

    def start(self, mean: Tensor, scale: Tensor) -> Tensor:
        """Nothing is done to a column, or it is standardised as far as the bound lets it be."""
        if not self.from_rows:
            return super().start(mean, scale)
        log_scale = scale.log()
        if self.bound is not None:
            log_scale = torch.atanh((log_scale / self.bound).clamp(-0.95, 0.95)) * self.bound
        return torch.stack([mean, log_scale / self.gain])

    def log_scale(self, raw: Tensor) -> Tensor:
        """α of the second parameter."""
        if self.bound is None:
            return raw * self.gain
        return torch.tanh(raw * (self.gain / self.bound)) * self.bound

    def forward(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """x to (u, −α)."""
        shift, raw = theta
        precision = -self.log_scale(raw)
        return (x - shift) * precision.exp(), precision

    def inverse(self, u: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """u to (x, α)."""
        shift, raw = theta
        log_scale = self.log_scale(raw)
        return u * log_scale.exp() + shift, log_scale
