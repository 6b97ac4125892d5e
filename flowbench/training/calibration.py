"""What transforms are told of the rows that arrive there: where to begin, and the statistics of evaluation."""

from __future__ import annotations

import torch
from torch import Tensor

from flowbench.data.rows import Rows, through
from flowbench.flows import Flow
from flowbench.flows.core.batches import rows_at_once
from flowbench.transforms import Transform, WithStart, WithStatistics

ROWS = 10_000
"""Rows moved at a time: bounds the memory of the activations."""


def calibrate(flow: Flow, x: Rows) -> None:
    """Give each transform that wants them (batch normalisation) the mean and variance of the training set x (N, G + D).

    They are taken of the rows as the transforms before it, calibrated, leave them.
    """
    _tell(flow, x, WithStatistics)


def begin(flow: Flow, x: Rows) -> None:
    """Have each transform that wants it (activation normalisation) begin where the first rows of x (N, G + D) say.

    Batch normalisation before it is calibrated on the way: what arrives is what arrives in training, too.
    """
    _tell(flow, x[:ROWS], WithStart, WithStatistics)


@torch.no_grad()
def _tell(flow: Flow, x: Rows, kind: type[Transform], *before: type[Transform]) -> None:
    """Tell each leaf of a kind, and those of others ``before`` one, the mean and variance of what arrives there.

    The leaves before it are told already.
    """
    training = flow.training
    flow.eval()
    for part in flow.parts:
        _tell_one(part, x, kind, *before)
    flow.train(training)


def _tell_one(flow: Flow, x: Rows, kind: type[Transform], *before: type[Transform]) -> None:
    # what is taken inversely sends noise where rows arrive: nothing is known of it
    leaves = [None if inverted else leaf for leaf, inverted in flow.transform.leaves()]
    last = max((index for index, leaf in enumerate(leaves) if isinstance(leaf, kind)), default=-1)
    at_once = rows_at_once(flow, ROWS)
    for index, leaf in enumerate(leaves[: last + 1]):
        if isinstance(leaf, (kind, *before)):
            moments = [moment[-flow.dim :] for moment in mean_and_variance(x)]
            if isinstance(leaf, WithStart):
                leaf.begin(*moments)
            if isinstance(leaf, WithStatistics):
                leaf.set_statistics(*moments)
        if index < last:
            x = through(x, lambda rows: flow.moved_by(index, rows), at_once)  # noqa: B023  # at once


def mean_and_variance(x: Rows) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (D,) of the rows x (N, D), summed in float64."""
    precise = torch.float32 if x.device.type == "mps" else torch.float64  # MPS has no float64
    total = sum(rows.sum(0, dtype=precise) for rows in x.split(ROWS))
    mean = torch.as_tensor(total) / len(x)
    # a whole copy in float64 would double the memory
    squares = sum((rows.to(precise) - mean).square().sum(0) for rows in x.split(ROWS))
    return mean, torch.as_tensor(squares) / len(x)
