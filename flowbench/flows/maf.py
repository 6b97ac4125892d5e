"""Masked Autoregressive Flow: Papamakarios, Pavlakou, Murray 2017, "Masked Autoregressive Flow for Density Estimation".

Masked autoregressive affine transforms, batch normalisation after each, the order of the columns reversed between them.
A density is one pass of each network, a sample D in the textbook and one by substitution.
"""

from __future__ import annotations

from pydantic import Field

from flowbench.flows import Flow
from flowbench.flows.core.assembly import StackOptions, stack
from flowbench.flows.core.given import Given, width
from flowbench.transforms import Affine, Chain, MaskedAutoregressive


class Options(StackOptions):
    """A MAF's size."""

    log_scale_bound: float | None = Field(
        2.0, gt=0, description="The largest log-scale either way, approached smoothly; none: unbounded."
    )


def autoregressive(dim: int, options: Options, given: Given | None) -> MaskedAutoregressive:
    """One of its transforms."""
    return MaskedAutoregressive(dim, options.body(), Affine(options.log_scale_bound), width(given))


def build(dim: int, options: Options, given: Given | None = None) -> Flow:
    """A MAF over rows of ``dim`` columns."""
    steps = [autoregressive(dim, options, given) for _ in range(options.transforms)]
    return Flow(dim, Chain(stack(dim, steps, options)), given=given)
