"""RealNVP: Dinh, Sohl-Dickstein, Bengio 2017, "Density estimation using Real NVP", for tables as in the MAF paper.

Affine couplings that move the even and the odd columns in turn, with batch normalisation after each. One pass in both
directions.
"""

from __future__ import annotations

from pydantic import Field

from flowbench.config import FlowOptions, Widths
from flowbench.flows import Flow
from flowbench.transforms import AffineCoupling, BatchNorm, Chain, Transform


class Options(FlowOptions):
    """A RealNVP's size; ``hidden`` is that of the scale network and of the translation network, which are separate."""

    transforms: int = Field(5, ge=1, description="Coupling transforms, two networks each.")
    hidden: Widths = Field((100, 100), description="Units of each hidden layer of a network.")
    log_scale_bound: float | None = Field(
        2.0, gt=0, description="The largest log-scale either way, approached smoothly; none: unbounded."
    )
    batch_norm: bool = Field(True, description="Whether batch normalisation follows each transform.")


def build(dim: int, options: Options) -> Flow:
    """A RealNVP over rows of ``dim`` columns."""
    transforms: list[Transform] = []
    for index in range(options.transforms):
        transforms.append(AffineCoupling(dim, options.hidden, 1 - index % 2, options.log_scale_bound))
        if options.batch_norm:
            transforms.append(BatchNorm(dim))
    return Flow(dim, Chain(transforms))
