"""What neural spline flows share: their sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from flowbench.config import Widths
from flowbench.flows.core.assembly import StackOptions, mixed, stack
from flowbench.transforms import Chain, RationalQuadraticSpline, Transform


class SplineOptions(StackOptions):
    """A neural spline flow's size; the paper's, but for the width."""

    hidden: Widths = Field((128, 128, 128), description="Units of each hidden layer of a network.")
    residual: bool = Field(
        True, description="Whether the first layer is what blocks add to: each further width is that of a block."
    )
    between: Literal["reverse", "random", "lu"] = Field(
        "lu", description="How columns are mixed before each transform, and after the last: see maf."
    )
    batch_norm: bool = Field(False, description="Whether batch normalisation follows each transform.")
    bins: int = Field(8, ge=2, le=500, description="Bins of a spline.")
    tail_bound: float = Field(3.0, gt=0, description="Where splines end: the identity beyond, either way.")

    def spline(self) -> RationalQuadraticSpline:
        """The map of each column."""
        return RationalQuadraticSpline(self.bins, self.tail_bound)


def spline_stack(dim: int, steps: Sequence[Transform], options: SplineOptions) -> Chain:
    """Steps with what lies between them, the columns mixed before the first and after the last, too."""
    return Chain([*mixed(dim, options.between), *stack(dim, steps, options), *mixed(dim, options.between)])
