"""MADE MoG: a MADE whose conditionals are mixtures of Gaussians (MAF paper 2017, §4; RNADE's, Uria et al. 2013).

One masked network gives weights, means and log-scales of C Gaussians for each column, given the columns before. A
density is one pass, and so is a draw, by substitution: of each column first a component, then a number from it.
"""

from __future__ import annotations

from pydantic import Field

from flowbench.flows import Flow
from flowbench.flows.core.given import Given
from flowbench.flows.core.orders import OrderedOptions, made_in_orders
from flowbench.transforms import GaussianMixture


class Options(OrderedOptions):
    """A MADE MoG's size."""

    components: int = Field(10, ge=1, description="Gaussians of each column's mixture.")


def build(dim: int, options: Options, given: Given | None = None) -> Flow:
    """A MADE MoG over rows of ``dim`` columns."""
    return made_in_orders(dim, options, GaussianMixture(options.components), given)
