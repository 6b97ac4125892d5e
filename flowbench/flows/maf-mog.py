"""MAF MoG: a MAF over a MADE MoG (MAF paper 2017, §4): affine autoregressive transforms, then mixtures of Gaussians."""

from __future__ import annotations

from pydantic import Field

from flowbench.flows import Flow, maf
from flowbench.flows.core.assembly import mixed, stack
from flowbench.flows.core.given import Given, width
from flowbench.transforms import Chain, GaussianMixture, MaskedAutoregressive


class Options(maf.Options):
    """A MAF MoG's size: that of the MAF's networks, and the MADE MoG's is the same."""

    components: int = Field(10, ge=1, description="Gaussians of each column's mixture.")


def build(dim: int, options: Options, given: Given | None = None) -> Flow:
    """A MAF MoG over rows of ``dim`` columns."""
    steps = stack(dim, [maf.autoregressive(dim, options, given) for _ in range(options.transforms)], options)
    base = MaskedAutoregressive(dim, options.body(), GaussianMixture(options.components), width(given))
    return Flow(dim, Chain([*steps, *mixed(dim, options.between), base]), given=given)
