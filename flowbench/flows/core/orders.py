"""Masked networks over one order of the columns, or over several."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from flowbench.flows.core.assembly import NetworkOptions
from flowbench.flows.core.ensemble import Ensemble
from flowbench.flows.core.flow import Flow
from flowbench.flows.core.given import Given, width
from flowbench.flows.core.whitened import WhitenedFlow
from flowbench.transforms import Chain, MaskedAutoregressive, Permutation, Transform, Univariate, Whitening


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


def made_in_orders(
    dim: int,
    options: OrderedOptions,
    univariate: Univariate,
    given: Given | None,
    whiten: bool = False,
    views: Sequence[Transform] = (),
) -> Flow:
    """A MADE with these conditionals, of whitened rows or not; an ensemble of such over several orders or views."""

    def one(index: int) -> Flow:
        order = [Permutation.random(dim)] if index or options.order == "random" else []
        whitening = [Whitening(dim)] if whiten else []
        made = MaskedAutoregressive(dim, options.body(), univariate, width(given))
        own = copy.deepcopy(given) if index else given
        return WhitenedFlow(dim, Chain([*order, *whitening, made]), given=own)

    flows = [one(index) for index in range(options.orders)]
    return Ensemble(flows, views) if len(flows) > 1 or views else flows[0]
