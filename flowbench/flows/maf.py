"""Masked Autoregressive Flow: Papamakarios, Pavlakou, Murray 2017, "Masked Autoregressive Flow for Density Estimation".

Masked autoregressive affine transforms, batch normalisation after each, the order of the columns reversed between them.
A density is one pass of each network, a sample D in the textbook and one by substitution.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from flowbench.flows import Flow
from flowbench.flows.core.assembly import StackOptions, stack
from flowbench.flows.core.given import Given, width
from flowbench.transforms import Affine, Chain, Gated, MaskedAutoregressive, Univariate


class Options(StackOptions):
    """A MAF's size."""

    update: Literal["affine", "gated"] = Field(
        "affine",
        description="What a transform does to a column z: shifts and scales it, or makes it sigmoid(s) z + "
        "(1 - sigmoid(s)) m, as an IAF's draws are in Kingma et al. 2016 (algorithm 1).",
    )
    log_scale_bound: float | None = Field(
        2.0,
        gt=0,
        description="The largest log-scale either way, approached smoothly; none: unbounded. A gated update has none.",
    )

    def univariate(self) -> Univariate:
        """The map of each column."""
        return Gated() if self.update == "gated" else Affine(self.log_scale_bound)


def autoregressive(dim: int, options: Options, given: Given | None) -> MaskedAutoregressive:
    """One of its transforms."""
    return MaskedAutoregressive(dim, options.body(), options.univariate(), width(given))


def build(dim: int, options: Options, given: Given | None = None) -> Flow:
    """A MAF over rows of ``dim`` columns."""
    steps = [autoregressive(dim, options, given) for _ in range(options.transforms)]
    return Flow(dim, Chain(stack(dim, steps, options)), given=given)
