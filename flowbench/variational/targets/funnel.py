"""Neal's funnel: a scale that varies by orders of magnitude from one end of the density to the other."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from flowbench.transforms import standard_normal
from flowbench.variational.targets.target import Moments, Target

_SD = 3.0  # of v
_SCALES = 9  # coordinates x_i whose scale is exp(v/2)
_LEAST_V = -60.0


class Funnel(Target):
    """v ~ N(0, 3²), and x_i | v ~ N(0, exp(v)) for i = 1..9 (Neal 2003, "Slice sampling", section 8); z = (v, x).

    Below v = -60, 20 standard deviations out, the scale of x shrinks no further: exp(-v) would overflow float32. That
    is a normalised density, too, and moves no mass that a double could count.
    """

    def __init__(self) -> None:
        super().__init__(
            "funnel",
            dim=1 + _SCALES,
            title="Neal's funnel: the first coordinate, v, sets the scale of the nine others, exp(v/2)",
            source='R. M. Neal, "Slice sampling", Annals of Statistics 31 (2003), section 8',
        )

    def forward(self, z: Tensor) -> Tensor:
        """log N(v; 0, 3²) + Σ_i log N(x_i; 0, exp(v)), (N,) in nats, of z (N, 10)."""
        v, x = z.split([1, _SCALES], -1)
        log_scale = v.clamp(min=_LEAST_V) / 2
        of_x = standard_normal(x * (-log_scale).exp()) - log_scale
        return (standard_normal(v / _SD) - math.log(_SD) + of_x.sum(-1, keepdim=True)).squeeze(-1)

    @property
    def log_z(self) -> float:
        """0: the density is normalised."""
        return 0.0

    @property
    def moments(self) -> Moments:
        """In closed form: E x_i² = E exp(v) = exp(9/2)."""
        zero = torch.zeros(self.dim, dtype=torch.float64)
        sd = torch.full_like(zero, math.exp(_SD**2 / 4))
        sd[0] = _SD
        return Moments(mean=zero, sd=sd, mean_stderr=zero, sd_stderr=zero, source="closed form")

    def draw(self, n: int, generator: Generator) -> Tensor:
        """Independent draws (n, 10): v, then x given v."""
        noise = torch.randn(n, self.dim, generator=generator, device=generator.device)
        v = _SD * noise[:, :1]
        return torch.cat([v, noise[:, 1:] * (v / 2).exp()], -1)
