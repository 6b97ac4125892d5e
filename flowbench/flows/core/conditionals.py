"""A density as the product of its columns' conditionals, of flows that take the columns in one order."""

from __future__ import annotations

import torch
from torch import Tensor

from flowbench.flows.core.flow import Flow
from flowbench.transforms import MaskedAutoregressive, Pair, Permutation, Transform, standard_normal


def order_of_noise(flow: Flow) -> Tensor:
    """The columns (D,) of x that the columns of u = f(x) began as, by the permutations on their way.

    After several transforms, or one that mixes columns, that is all that they have in common; see ``has_one_order``.
    """
    order = torch.arange(flow.dim)
    for leaf, inverted in flow.transform.leaves():
        if isinstance(leaf, Permutation):
            order = order[_order(leaf, inverted)]
    return order


def has_one_order(flow: Flow) -> bool:
    """Whether all its transforms are triangular in one order of the columns: u_i depends on x_i and those before it.

    A product of such maps is one, too. The order of a MAF's columns is reversed between its transforms: then a column
    of noise depends on columns after it, and what belongs to it is no conditional density.
    """
    order, found = torch.arange(flow.dim), None
    for leaf, inverted in flow.transform.leaves():
        if isinstance(leaf, Permutation):
            order = order[_order(leaf, inverted)]
        elif leaf.reach == "all":
            return False
        elif leaf.reach == "before":
            if found is not None and not order.equal(found):
                return False
            found = order
    return True


@torch.no_grad()
def log_conditionals(flow: Flow, rows: Tensor) -> Tensor:
    """log p(x_i | the columns before x_i) (N, D) in nats of rows (N, G + D) of a flow that has one order.

    With u = f(x) triangular, the first k columns of u are a flow of the first k columns of x alone, so that
    p(x_i | x_<i) = N(u_i; 0, 1)·|∂u_i/∂x_i|: the terms add up to log p(x).
    """
    given, x = flow.apart(rows)
    context = () if flow.given is None or given is None else (flow.given(given),)
    order, terms = torch.arange(flow.dim), torch.zeros_like(x)
    leaves = list(flow.transform.leaves())
    for place, (leaf, inverted) in enumerate(leaves, 1):
        own = context if leaf.context else ()
        if isinstance(leaf, Permutation):
            places = _order(leaf, inverted)
            x, order = x[:, places], order[places]
        elif isinstance(leaf, MaskedAutoregressive) and not inverted and place == len(leaves):
            # of a mixture it holds far out, too, where u and its slope are lost
            terms[:, order] += leaf.log_densities(x, *own)
            return terms
        else:
            x, slopes = _moved(leaf, inverted, x, own)
            terms[:, order] += slopes
    terms[:, order] += standard_normal(x)
    return terms


def _order(leaf: Permutation, inverted: bool) -> Tensor:
    return (leaf.back if inverted else leaf.order).cpu()


def _moved(leaf: Transform, inverted: bool, x: Tensor, context: tuple[Tensor, ...]) -> Pair:
    """u (N, D) and log|∂u_i/∂x_i| (N, D)."""
    if not inverted:
        return leaf.by_column(x, *context)
    u = leaf.inverse(x, *context)[0]
    return u, -leaf.by_column(u, *context)[1]
