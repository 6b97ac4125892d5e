"""Neural spline flow with couplings: Durkan et al. 2019, "Neural Spline Flows" (RQ-NSF (C)).

As `nsf-ar`, with couplings: half of the columns pass and give the splines of the others. One pass in both directions.
"""

from __future__ import annotations

from flowbench.flows import Flow
from flowbench.flows.core.given import Given, width
from flowbench.flows.core.splines import SplineOptions as Options
from flowbench.flows.core.splines import spline_stack
from flowbench.transforms import Coupling, dense


def coupling(dim: int, parity: int, options: Options, given: Given | None) -> Coupling:
    """One of its transforms: the columns of one parity pass."""
    passed = len(range(parity, dim, 2))
    spline = options.spline()
    seen = width(given) + passed
    network = dense(seen, options.body(), (dim - passed) * spline.parameters, fan_in=seen)
    return Coupling(dim, parity, spline, [network], width(given))


def build(dim: int, options: Options, given: Given | None = None) -> Flow:
    """A neural spline flow with couplings over rows of ``dim`` columns."""
    steps = [coupling(dim, 1 - index % 2, options, given) for index in range(options.transforms)]
    return Flow(dim, spline_stack(dim, steps, options), given=given)
