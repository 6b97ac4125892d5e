"""That fitting a flow to data is fitting its inverse to the base density, measured where the data's density is known.

Papamakarios et al. 2021, "Normalizing Flows for Probabilistic Modeling and Inference", section 2.3, and for a MAF and
its implicit IAF Papamakarios et al. 2017, appendix A: KL(π_x ‖ p_x) = KL(p_u ‖ π_u), where p_u is the density of the
noise u = f(x) of data x, and π_u the base. As integrals they are one and the same; here each is computed by a direction
of its own, so that what they differ by is what the flow's directions do.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowbench.data.dataset import Float64
from flowbench.data.preparing.truth import LogDensity
from flowbench.data.rows import Rows
from flowbench.flows import Flow
from flowbench.flows.core.batches import rows_at_once
from flowbench.results.record import Check
from flowbench.transforms import standard_normal

ROWS, AT_ONCE = 5000, 500
"""Test rows at the most, in double precision on a CPU, and those taken at a time."""

LIMIT = 1e-6
"""Nats by which a row's sides may differ, as rows there and back may: rounding came to 2e-12 at the most, of MAFs,
IAFs, RealNVPs and splines trained on each dataset whose density is known; what an equation lacks is far more."""

WHAT = "max |(log p_u - log base)(u) - (log p - log flow)(x)| in float64, u of x, p_u by the way back from u"


@dataclass(frozen=True)
class Duality:
    """Of test rows x (n,) in nats: log π_x(x) − log p_x(x), and log p_u(u) − log π_u(u) at u = f(x)."""

    of_data: Float64
    of_noise: Float64

    @property
    def check(self) -> Check:
        """That both are the same, row by row."""
        with np.errstate(invalid="ignore"):  # infinite on both sides is NaN, which is below no limit
            largest = float(np.abs(self.of_noise - self.of_data).max())
        return Check.of(largest, LIMIT, WHAT)


def has_duality(flow: Flow) -> bool:
    """Whether it is one map that its noise tells all of: a mixture's is nearly flat between its bulks."""
    return flow.bijective and flow.given is None and all(leaf.draws == 1 for leaf, _ in flow.transform.leaves())


@torch.no_grad()
def duality(flow: Flow, rows: Rows, log_prob: LogDensity) -> Duality:
    """Both sides at test ``rows`` (N, D), whose true log-density is ``log_prob``, of the first `ROWS` of them.

    The left side is the density direction's alone. Of the right side nothing is known but u: the implicit flow's
    density p_u(u) = π_x(x')·|det ∂x'/∂u| takes x' and the determinant from the other direction, and π_x at that x'.
    What is wrong in both directions alike it cannot tell; the check of the log-determinant by autograd does.
    """
    exact = _exact(flow)
    sides = [_sides(exact, x, log_prob) for x in _parts(exact, rows)]
    return Duality(*(np.concatenate(side) for side in zip(*sides, strict=True)))


@torch.no_grad()
def duality_seconds(
    flow: Flow, rows: Rows, log_prob: LogDensity, seconds_of: Callable[[Callable[[], object]], float]
) -> float:
    """The seconds that `duality` will take, by those of its first part."""
    exact = _exact(flow)
    first = next(_parts(exact, rows))
    return seconds_of(lambda: _sides(exact, first, log_prob)) * min(len(rows), ROWS) / len(first)


def _sides(flow: Flow, x: Tensor, log_prob: LogDensity) -> tuple[Float64, Float64]:
    """The two sides at x (n, D), each (n,)."""
    of_data = log_prob(x.numpy()) - flow.log_prob(x).numpy()
    u, _ = flow.to_noise(x)
    again, log_det = flow.to_data(u)
    of_noise = log_prob(again.numpy()) + (log_det - standard_normal(u).sum(-1)).numpy()
    return of_data, of_noise


def _exact(flow: Flow) -> Flow:
    return copy.deepcopy(flow).cpu().double().eval().requires_grad_(False)


def _parts(flow: Flow, rows: Rows) -> Iterator[Tensor]:
    """The first rows, some at a time, in double precision on the CPU."""
    at_once, end = rows_at_once(flow, AT_ONCE), min(len(rows), ROWS)
    for start in range(0, end, at_once):
        yield rows[start : min(start + at_once, end)].cpu().double()
