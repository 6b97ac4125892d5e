"""The density of what is there of a row: the integral over what stands in for numbers that are absent."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from flowbench.transforms import standard_normal

FARTHEST, SPACING = 8.0, 0.25
"""Of the points where one number of a row is absent. What is smooth and falls off to both sides, the trapezoidal rule
integrates to rounding; Gauss and Hermite's for N(0, 1) does so only where a flow has learned that it is N(0, 1)."""

POINTS = 256
"""Of a Sobol sequence, where more are."""


@cache
def fills(absent: int) -> tuple[Tensor, Tensor]:
    """Points (K, absent) and the logarithms of their weights (K,) for integrals over N(0, I), in float64."""
    if absent == 1:
        points = torch.arange(-FARTHEST, FARTHEST + SPACING / 2, SPACING, dtype=torch.float64)[:, None]
        return points, standard_normal(points)[:, 0] + math.log(SPACING)
    uniform = SobolEngine(absent, scramble=True, seed=0).draw(POINTS, dtype=torch.float64)
    points = torch.special.ndtri(uniform.clamp(1e-9, 1 - 1e-9))
    return points, torch.full((POINTS,), -math.log(POINTS), dtype=torch.float64)
