"""The density of what is there of a row: the integral over what stands in for numbers that are absent."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.quasirandom import SobolEngine

from flowbench.flows.core.batches import ROWS
from flowbench.transforms import standard_normal

Float64 = NDArray[np.float64]

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


def integrated(log_prob: Callable[[Tensor], Float64], u: Tensor, absent: Tensor) -> Float64:
    """Log-densities (N,) of rows u (N, K + D), the D last of which may be ``absent`` (N, D): integrals over those.

    ``log_prob`` has the density of whole rows over that of N(0, 1) of what is absent, as `tabular.Tabular` has it.
    """
    counts, lls = absent.sum(1), np.empty(len(u))
    for count in counts.unique().tolist():
        at = (counts == count).nonzero()[:, 0]
        if count == 0:
            lls[at.numpy()] = log_prob(u[at])
            continue
        points, log_weights = fills(count)
        for part in at.split(max(1, ROWS // len(points))):
            rows, which = (x[part].repeat_interleave(len(points), 0) for x in (u, absent))
            rows[:, -which.shape[1] :][which] = points.repeat(len(part), 1).flatten()
            found = torch.from_numpy(log_prob(rows)).view(len(part), -1)
            lls[part.numpy()] = (found + log_weights).logsumexp(1).numpy()
    return lls
