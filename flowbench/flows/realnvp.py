"""RealNVP: Dinh, Sohl-Dickstein, Bengio 2017, "Density estimation using Real NVP", for tables as in the MAF paper.

Affine couplings that move the even and the odd columns in turn, with batch normalisation after each. One pass in both
directions.
"""

from __future__ import annotations

from pydantic import Field

from flowbench.config import FlowOptions, Widths
from flowbench.flows import Flow
from flowbench.flows.core.given import Given, width
from flowbench.transforms import RELU, TANH, Affine, BatchNorm, Body, Chain, Coupling, Transform, dense


class Options(FlowOptions):
    """A RealNVP's size; ``hidden`` is that of the scale network and of the translation network, which are separate."""

    transforms: int = Field(5, ge=1, description="Coupling transforms, two networks each.")
    hidden: Widths = Field((100, 100), description="Units of each hidden layer of a network.")
    log_scale_bound: float | None = Field(
        2.0, gt=0, description="The largest log-scale either way, approached smoothly; none: unbounded."
    )
    batch_norm: bool = Field(True, description="Whether batch normalisation follows each transform.")


def coupling(dim: int, parity: int, options: Options, given: Given | None) -> Coupling:
    """One of its transforms: the columns of one parity pass, the networks of scale (tanh) and translation (relu) apart.

    The paper's code feeds all D columns, those of the other half as zeros, and they count as fan-in.
    """
    passed = len(range(parity, dim, 2))
    context = width(given)
    scale, translation = (
        dense(context + passed, Body(options.hidden, activation), dim - passed, fan_in=context + dim)
        for activation in (TANH, RELU)
    )
    return Coupling(dim, parity, Affine(options.log_scale_bound, gain=1.0), [translation, scale], context)


def build(dim: int, options: Options, given: Given | None = None) -> Flow:
    """A RealNVP over rows of ``dim`` columns."""
    transforms: list[Transform] = []
    for index in range(options.transforms):
        transforms.append(coupling(dim, 1 - index % 2, options, given))
        if options.batch_norm:
            transforms.append(BatchNorm(dim))
    return Flow(dim, Chain(transforms), given=given)
