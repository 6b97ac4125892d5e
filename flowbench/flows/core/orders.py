"""Masked networks over one order of the columns, or over several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import Field

from flowbench.flows.core.assembly import NetworkOptions
from flowbench.flows.core.ensemble import Ensemble
from flowbench.flows.core.flow import Flow
from flowbench.transforms import Permutation, Transform


class OrderedOptions(NetworkOptions):
    """A network's size, and the orders in which it takes the columns."""

    order: Literal["given", "random"] = Field(
        "given", description="The order of the columns: that of the data, or a random one."
    )
    orders: int = Field(
        1,
        ge=1,
        description="Orders of the columns whose densities are averaged, each with weights of its own; those after the "
        "first are random.",
    )


def in_orders(
    dim: int, options: OrderedOptions, build: Callable[[list[Transform]], Flow], views: Sequence[Transform] = ()
) -> Flow:
    """The flow that ``build`` makes of what stands first in it; an ensemble of several orders, or views."""

    def first(index: int) -> list[Transform]:
        return [Permutation.random(dim)] if index or options.order == "random" else []

    flows = [build(first(index)) for index in range(options.orders)]
    return Ensemble(flows, views) if len(flows) > 1 or views else flows[0]
