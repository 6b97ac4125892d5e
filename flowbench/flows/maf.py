"""Masked Autoregressive Flow: Papamakarios, Pavlakou, Murray 2017, "Masked Autoregressive Flow for Density Estimation".

Masked autoregressive affine transforms, batch normalisation after each, the order of the columns reversed between them.
A density is one pass of each network, a sample D in the textbook and one by substitution.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from flowbench.config import FlowOptions, Widths
from flowbench.flows import Flow
from flowbench.transforms import Affine, BatchNorm, Chain, MaskedAutoregressive, Permutation, Transform


class Options(FlowOptions):
    """A MAF's size."""

    transforms: int = Field(5, ge=1, description="Autoregressive transforms, one network each.")
    hidden: Widths = Field((100, 100), description="Units of each hidden layer of a network.")
    activation: Literal["relu", "tanh"] = Field("relu", description="What the hidden units apply to their sums.")
    log_scale_bound: float | None = Field(
        2.0, gt=0, description="The largest log-scale either way, approached smoothly; none: unbounded."
    )
    batch_norm: bool = Field(True, description="Whether batch normalisation follows each transform.")


def autoregressive(dim: int, options: Options) -> MaskedAutoregressive:
    """One of its transforms."""
    return MaskedAutoregressive(dim, options.hidden, Affine(options.log_scale_bound), options.activation)


def assemble(dim: int, steps: list[Transform], batch_norm: bool) -> Flow:
    """Steps with batch normalisation after each (the last included) and the columns reversed between them."""
    transforms: list[Transform] = []
    for step in steps:
        transforms += [Permutation.reverse(dim)] if transforms else []
        transforms += [step, BatchNorm(dim)] if batch_norm else [step]
    return Flow(dim, Chain(transforms))


def build(dim: int, options: Options) -> Flow:
    """A MAF over rows of ``dim`` columns."""
    return assemble(dim, [autoregressive(dim, options) for _ in range(options.transforms)], options.batch_norm)
