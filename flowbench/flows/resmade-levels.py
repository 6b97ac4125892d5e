"""ResMADE of levels: flowbench's own for images, a residual MADE whose conditionals are bins of the pixels' levels.

Pixels are levels plus uniform noise, so in logit space their density jumps from one level to the next, and on MNIST
four of five lie in the lowest level. Conditionals that are uniform over levels, or over bins of some, have those jumps;
mixtures of Gaussians round them off, which costs MNIST 40 nats. The network is ResMADE MoG's. A density is one pass,
a draw one by substitution.
"""

from __future__ import annotations

import math

from pydantic import Field

from flowbench.config import Widths
from flowbench.flows import Flow
from flowbench.flows.core.given import Given
from flowbench.flows.core.orders import OrderedOptions, made_in_orders
from flowbench.transforms import LogisticSpline


class Options(OrderedOptions):
    """Its size, and what pixels are."""

    hidden: Widths = Field((512, 512, 512), description="Units of the first layer, and of each block.")
    residual: bool = Field(
        True, description="Whether the first layer is what blocks add to: each further width is that of a block."
    )
    levels: int = Field(256, ge=2, le=1 << 16, description="Levels of a pixel.")
    alpha: float = Field(
        1e-6, gt=0, lt=0.5, description="Of the logit transform: the least share of the range that a pixel becomes."
    )
    coarsest: int = Field(16, ge=1, description="Levels of a bin at the most; towards both ends bins are finer.")

    def knots(self) -> list[float]:
        """Between bins, in logit space; what lies beyond the least and the greatest is no pixel."""
        shares = (self.alpha + (1 - 2 * self.alpha) * edge / self.levels for edge in edges(self.levels, self.coarsest))
        return [math.log(share / (1 - share)) for share in shares]


def edges(levels: int, coarsest: int) -> list[int]:
    """Of bins of 1, 1, 2, 4, ... levels, up to the coarsest, from either end: 0, 1, 2, 4, 8, 16, 32, ..., 255, 256."""
    found, edge = {0, levels}, 1
    while edge <= levels // 2:
        found |= {edge, levels - edge}
        edge += min(edge, coarsest)
    return sorted(found)


def build(dim: int, options: Options, given: Given | None = None) -> Flow:
    """A residual MADE over images of ``dim`` pixels in logit space."""
    return made_in_orders(dim, options, LogisticSpline(options.knots()), given)
