"""A flow that begins with a whitening, fitted in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from flowbench.data import fit_gaussian
from flowbench.data.dataset import Float32
from flowbench.data.rows import Rows
from flowbench.flows.core.flow import Flow
from flowbench.transforms import Chain, Transform, Whitening

ROWS = 50_000
"""Taken at a time."""


class WhitenedFlow(Flow):
    """A flow in which each `Whitening` takes the mean and covariance of the training rows as they arrive there.

    Only what has nothing to train (an order of the columns) may stand before one.
    """

    def fit_closed_form(self, x: Rows, validation: Rows) -> None:
        """Maximum likelihood on the columns of x (N, G + D): their mean and biased covariance, in float64 on the CPU.

        Raises:
            DataError: the covariance is singular: a column is a combination of others, or there are too few rows.
        """
        leaves = [leaf for leaf, _ in self.transform.leaves()]
        for index, leaf in enumerate(leaves):
            if isinstance(leaf, Whitening):
                mean, factor = fit_gaussian(partial(self._arriving, Chain(leaves[:index]), x))
                leaf.mean.copy_(torch.from_numpy(mean))
                leaf.factor.copy_(torch.from_numpy(factor))

    def _arriving(self, before: Transform, x: Rows) -> Iterator[Float32]:
        return (before(self.apart(part)[1])[0].cpu().numpy() for part in x.split(ROWS))
