"""The density of what is there of a row: the integral over what stands in for numbers that are absent."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from flowbench.transforms import standard_normal

FARTHEST, SPACING = 8.0, (0.25, 0.5)
"""Of the points where one number of a row is absent, or two: a grid. What is smooth and falls off to all sides, the
trapezoidal rule integrates to rounding, whatever its place and width; Gauss and Hermite's for N(0, 1) does so only
where a flow has learned that it is N(0, 1)."""

POINTS, WIDER = 1024, 1.25
"""Of a Sobol sequence where more are absent; of normals with this standard deviation: a ratio of densities is bounded
where what is integrated is a little wider than N(0, I), too."""


@cache
def fills(absent: int) -> tuple[Tensor, Tensor]:
    """Points (K, absent) and the logarithms of their weights (K,) for integrals over N(0, I), in float64."""
    if absent <= len(SPACING):
        spacing = SPACING[absent - 1]
        line = torch.arange(-FARTHEST, FARTHEST + spacing / 2, spacing, dtype=torch.float64)
        points = torch.cartesian_prod(*[line] * absent).view(-1, absent)
        return points, standard_normal(points).sum(1) + absent * math.log(spacing)
    uniform = SobolEngine(absent, scramble=True, seed=0).draw(POINTS, dtype=torch.float64)
    normal = torch.special.ndtri(uniform.clamp(1e-9, 1 - 1e-9))
    points = WIDER * normal
    weights = standard_normal(points) - standard_normal(normal) + math.log(WIDER)
    return points, weights.sum(1) - math.log(POINTS)
