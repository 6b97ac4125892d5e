"""MADE as a density: Germain et al. 2015, "MADE: Masked Autoencoder for Distribution Estimation".

One masked network gives the mean and the log-precision of each column, given those before: a MAF of one transform
without batch normalisation, and the MAF paper's first baseline.
"""

from __future__ import annotations

from pydantic import Field

from flowbench.flows import Flow
from flowbench.flows.core.given import Given
from flowbench.flows.core.orders import OrderedOptions, made_in_orders
from flowbench.transforms import Affine


class Options(OrderedOptions):
    """A MADE's size."""

    log_scale_bound: float | None = Field(
        2.0, gt=0, description="The largest log-scale either way, approached smoothly; none: unbounded."
    )


def build(dim: int, options: Options, given: Given | None = None) -> Flow:
    """A MADE over rows of ``dim`` columns."""
    return made_in_orders(dim, options, Affine(options.log_scale_bound, from_rows=True), given)
