"""Neural spline flow, autoregressive: Durkan et al. 2019, "Neural Spline Flows" (RQ-NSF (AR)).

Rational-quadratic splines whose parameters come from a masked residual network; between them the columns are mixed by a
random order and an LU-decomposed linear layer. A density is one pass of each network, a sample one by substitution.
"""

from __future__ import annotations

from flowbench.flows import Flow
from flowbench.flows.core.given import Given, width
from flowbench.flows.core.splines import SplineOptions as Options
from flowbench.flows.core.splines import spline_stack
from flowbench.transforms import MaskedAutoregressive


def build(dim: int, options: Options, given: Given | None = None) -> Flow:
    """An autoregressive neural spline flow over rows of ``dim`` columns."""
    body, spline = options.body(), options.spline()
    steps = [MaskedAutoregressive(dim, body, spline, width(given)) for _ in range(options.transforms)]
    return Flow(dim, spline_stack(dim, steps, options), given=given)
