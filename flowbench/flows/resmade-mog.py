"""ResMADE MoG: flowbench's own, a residual MADE whose conditionals are mixtures of Gaussians, of whitened rows or not.

MADE MoG's conditionals (MAF paper 2017, §4) from the residual masked network of Nash and Durkan 2019, "Autoregressive
Energy Machines", as one transform: on POWER-, BSDS300- and MNIST-like validation rows no stack of transforms under it
got further in the same time. Where columns are smooth functions of those before (pixels of photographs), it models
what a linear prediction leaves. A density is one pass, a draw one by substitution.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from flowbench.config import Widths
from flowbench.errors import UsageError
from flowbench.flows import Flow
from flowbench.flows.core.given import Given
from flowbench.flows.core.orders import OrderedOptions, made_in_orders
from flowbench.transforms import GaussianMixture, PatchSymmetry, Transform


class Options(OrderedOptions):
    """Its size."""

    hidden: Widths = Field((256, 256, 256), description="Units of the first layer, and of each block.")
    residual: bool = Field(
        True, description="Whether the first layer is what blocks add to: each further width is that of a block."
    )
    components: int = Field(20, ge=1, description="Gaussians of each column's mixture.")
    whiten: bool = Field(False, description="Whether rows are whitened first, each column by those before it.")
    symmetric: bool = Field(
        False,
        description="Whether a row is a square patch without its mean and its last pixel, whose density is averaged "
        "over the eight ways to turn and mirror it. Each training batch is seen in one of them, which costs nothing; a "
        "density costs eight times as much.",
    )


def build(dim: int, options: Options, given: Given | None = None) -> Flow:
    """A residual MADE MoG over rows of ``dim`` columns."""
    views = _symmetries(dim) if options.symmetric else ()
    return made_in_orders(dim, options, GaussianMixture(options.components), given, options.whiten, views)


def _symmetries(dim: int) -> Sequence[Transform]:
    try:
        return PatchSymmetry.all_of(dim)
    except ValueError as error:
        raise UsageError(f"symmetric: {error}") from error
