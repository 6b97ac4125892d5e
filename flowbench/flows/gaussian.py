"""A Gaussian with full covariance, fitted in closed form: the yardstick that every table of the MAF paper starts with.

It costs a second, and its value on a benchmark dataset is known: another one means other preprocessing.
"""

from __future__ import annotations

from flowbench.config import FlowOptions
from flowbench.flows import Flow
from flowbench.flows.core.whitened import WhitenedFlow
from flowbench.transforms import Whitening


class Options(FlowOptions):
    """There is nothing to choose."""


def build(dim: int, options: Options) -> Flow:
    """A Gaussian over rows of ``dim`` columns, standard until it is fitted. It has no parameters to descend on."""
    return WhitenedFlow(dim, Whitening(dim))
