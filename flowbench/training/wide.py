"""The log-determinant of a flow of very many columns: leaf by leaf, on columns drawn at random.

The whole Jacobian of 30,000 columns takes 7 GB for a row, and its determinant hours. But each leaf's is triangular in
some order of the columns: its log-determinant is the sum of log|∂u_i/∂x_i|, and these can be looked at one by one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowbench.flows import Flow
from flowbench.transforms import Coupling, Permutation, Transform

WIDE = 4096
"""Columns from which on Jacobians are looked at in part: of as many a whole one takes 134 MB, and a second."""

LOOKED_AT = 64
"""Columns of so wide a Jacobian, its first and last among them."""

WHAT = (
    f"max |log_det - log|det J|| / (1 + |log|det J||) in float64, of each leaf: its log_det against the sum over "
    f"columns, {LOOKED_AT} of these against J by autograd, and what J has beside its triangle"
)


def columns_of(dim: int) -> Tensor:
    """The columns of a Jacobian that are looked at: all, or of a ``WIDE`` one some that are drawn, in order."""
    if dim <= WIDE:
        return torch.arange(dim)
    drawn = torch.randperm(dim - 2, generator=torch.Generator().manual_seed(0))[: LOOKED_AT - 2] + 1
    return torch.cat([torch.tensor([0, dim - 1]), drawn]).sort().values


def log_det_error(flow: Flow, x: Tensor, columns: Tensor | None = None) -> float | None:
    """The greatest error of what ``WHAT`` says at x (N, G + D), of some ``columns`` or those that are drawn.

    None where a leaf is not known to be triangular.
    """
    columns = columns_of(flow.dim) if columns is None else columns
    given, own = flow.apart(x)
    context = () if flow.given is None or given is None else (flow.given(given).detach(),)
    own, summed, worst = own.detach(), x.new_zeros(len(x)), 0.0
    for leaf, inverted in flow.transform.leaves():
        error, own, term = _of_leaf(leaf, inverted, own, context if leaf.context else (), columns)
        if error is None:
            return None
        summed, worst = summed + term, max(worst, error)
    return max(worst, _off(flow.to_noise(x)[1].detach(), summed))


def _of_leaf(
    leaf: Transform, inverted: bool, x: Tensor, context: tuple[Tensor, ...], columns: Tensor
) -> tuple[float | None, Tensor, Tensor]:
    """A leaf's error at x (N, D), what it makes of x, and its log-determinant (N,)."""
    with torch.no_grad():
        out, term = (leaf.inverse if inverted else leaf)(x, *context)
    if isinstance(leaf, Permutation):
        moved = (out.sort(dim=1).values != x.sort(dim=1).values).any()
        return (float("inf") if moved else float(term.abs().max())), out, term
    rank = _rank(leaf, x.shape[1])
    if rank is None:
        return None, out, term
    before, log_det = (out, -term) if inverted else (x, term)
    before = before.detach().requires_grad_()
    moved, slopes = leaf.by_column(before, *context)
    errors = [_off(log_det, slopes.detach().sum(-1))]
    for i in columns.tolist():
        (row,) = torch.autograd.grad(moved[:, i].sum(), before, retain_graph=True)
        errors.append(_off(slopes[:, i].detach(), row[:, i].abs().log()))
        row[:, i] = 0
        errors.append(float(row[:, rank >= rank[i]].abs().max()))
    return max(errors), out, term


def _rank(leaf: Transform, dim: int) -> Tensor | None:
    """Numbers (D,): a column may depend on itself and on those of a lower number; None where nobody says."""
    if isinstance(leaf, Coupling):
        return torch.isin(torch.arange(dim), leaf.moved.cpu()).int()
    return {"own": torch.zeros(dim), "before": torch.arange(dim), "all": None}[leaf.reach]


def _off(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected).abs() / (1 + expected.abs())).max())
