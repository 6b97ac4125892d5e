"""The statistics that evaluation uses: those of the whole training set, of what arrives at each transform."""

from __future__ import annotations

import torch
from torch import Tensor

from flowbench.data.rows import Rows, through
from flowbench.engines import choose
from flowbench.engines.differentiate import run
from flowbench.flows import Flow
from flowbench.transforms import WithStatistics

ROWS = 10_000
"""Rows moved at a time: bounds the memory of the activations."""


@torch.no_grad()
def calibrate(flow: Flow, x: Rows) -> None:
    """Give each transform that wants them (batch normalisation) the mean and variance of the training set x (N, D).

    They are taken of the rows as the transforms before it, calibrated, leave them.
    """
    training = flow.training
    flow.eval()
    leaves = [leaf for leaf, _ in flow.transform.leaves()]
    last = max((index for index, leaf in enumerate(leaves) if isinstance(leaf, WithStatistics)), default=-1)
    for index, leaf in enumerate(leaves[: last + 1]):
        if isinstance(leaf, WithStatistics):
            leaf.set_statistics(*mean_and_variance(x))
        if index < last:
            stages = flow.stages()[index : index + 1]
            x = through(x, lambda rows: run(stages, rows, flow.engine or choose(rows)), ROWS)  # noqa: B023  # at once
    flow.train(training)


def mean_and_variance(x: Rows) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (D,) of the rows x (N, D), summed in float64."""
    precise = torch.float32 if x.device.type == "mps" else torch.float64  # MPS has no float64
    total = sum(rows.sum(0, dtype=precise) for rows in x.split(ROWS))
    mean = torch.as_tensor(total) / len(x)
    # a whole copy in float64 would double the memory
    squares = sum((rows.to(precise) - mean).square().sum(0) for rows in x.split(ROWS))
    return mean, torch.as_tensor(squares) / len(x)
