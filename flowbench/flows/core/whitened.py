"""A flow that begins with a whitening, fitted in closed form."""

from __future__ import annotations

import torch

from flowbench.data import fit_gaussian
from flowbench.data.rows import Rows
from flowbench.flows.core.flow import Flow
from flowbench.transforms import Transform, Whitening

ROWS = 50_000
"""Taken at a time."""


class WhitenedFlow(Flow):
    """A flow whose leaves that are a `Whitening` take the training rows' mean and covariance.

    They stand first: what is before them is not taken into account.
    """

    def fit_closed_form(self, x: Rows, validation: Rows) -> None:
        """Maximum likelihood on the columns of x (N, G + D): their mean and biased covariance, in float64 on the CPU.

        Raises:
            DataError: the covariance is singular: a column is a combination of others, or there are too few rows.
        """
        for whitening in self._whitenings():
            mean, factor = fit_gaussian(lambda: (self.apart(part)[1].cpu().numpy() for part in x.split(ROWS)))
            whitening.mean.copy_(torch.from_numpy(mean))
            whitening.factor.copy_(torch.from_numpy(factor))

    def _whitenings(self) -> list[Whitening]:
        leaves: list[Transform] = [leaf for leaf, _ in self.transform.leaves()]
        return [leaf for leaf in leaves if isinstance(leaf, Whitening)]
