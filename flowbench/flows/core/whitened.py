"""A flow that begins with a whitening, fitted in closed form."""

from __future__ import annotations

import torch

from flowbench.data import fit_gaussian
from flowbench.data.rows import Rows
from flowbench.flows.core.flow import Flow
from flowbench.transforms import Chain, Whitening

ROWS = 50_000
"""Taken at a time."""


class WhitenedFlow(Flow):
    """A flow in which each `Whitening` takes the mean and covariance of the training rows as they arrive there.

    Only what has nothing to train (an order of the columns) may stand before one.
    """

    def fit_closed_form(self, x: Rows, validation: Rows) -> None:
        """Maximum likelihood on x (N, D): sample mean and biased covariance, in float64 on the CPU.

        Raises:
            DataError: the covariance is singular: a column is a combination of others, or there are too few rows.
        """
        leaves = [leaf for leaf, _ in self.transform.leaves()]
        for index, leaf in enumerate(leaves):
            if isinstance(leaf, Whitening):
                before = Chain(leaves[:index])
                mean, factor = fit_gaussian(lambda: (before(part)[0].cpu().numpy() for part in x.split(ROWS)))  # noqa: B023  # at once
                leaf.mean.copy_(torch.from_numpy(mean))
                leaf.factor.copy_(torch.from_numpy(factor))
