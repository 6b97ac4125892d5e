"""Mean and variance of rows that come in chunks, however many there are and however far from zero. No torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowbench.data.dataset import Float64


class Moments:
    """Mean and population variance of D columns, merged chunk by chunk in float64.

    The merging is that of T. Chan, G. Golub and R. LeVeque: Updating formulae and a pairwise algorithm for computing
    sample variances, 1979. Rows are taken relative to the first one, or values far from zero would lose digits.
    """

    def __init__(self, dim: int) -> None:
        self._n = 0
        self._origin = np.zeros(dim)
        self._mean = np.zeros(dim)
        self._squares = np.zeros(dim)
        self._low, self._high = np.full(dim, np.inf), np.full(dim, -np.inf)

    def add(self, rows: NDArray[np.floating]) -> None:
        """Take rows (n, D); what overflows makes the mean or the variance infinite or NaN."""
        if not len(rows):
            return
        self._low, self._high = np.minimum(self._low, rows.min(axis=0)), np.maximum(self._high, rows.max(axis=0))
        if not self._n:
            self._origin = rows[0].astype(np.float64)
        with np.errstate(all="ignore"):
            away = rows - self._origin
            mean = away.mean(axis=0)
            step = mean - self._mean
            n = self._n + len(rows)
            self._squares += np.square(away - mean).sum(axis=0) + step**2 * (self._n * len(rows) / n)
            self._mean = self._mean + step * (len(rows) / n)
        self._n = n

    @property
    def mean(self) -> Float64:
        """The mean (D,)."""
        return self._origin + self._mean

    @property
    def variance(self) -> Float64:
        """The population variance (D,), which divides by N."""
        with np.errstate(all="ignore"):
            return self._squares / self._n

    @property
    def deviation(self) -> Float64:
        """The population standard deviation (D,)."""
        return np.sqrt(self.variance)

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Which columns (D,) have had one value only, whatever rounding makes of their variance."""
        return self._low == self._high
