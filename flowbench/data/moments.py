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
        self._n = np.zeros(dim)
        self._origin = np.zeros(dim)
        self._mean = np.zeros(dim)
        self._squares = np.zeros(dim)
        self._low, self._high = np.full(dim, np.inf), np.full(dim, -np.inf)

    def add(self, rows: NDArray[np.floating]) -> None:
        """Take rows (n, D), NaN where a value is absent; what overflows makes mean or variance infinite or NaN."""
        if not len(rows):
            return
        self._low, self._high = np.fmin(self._low, np.fmin.reduce(rows)), np.fmax(self._high, np.fmax.reduce(rows))
        there = ~np.isnan(rows)
        if there.all():
            there, count = None, np.float64(len(rows))
        else:
            count = there.sum(axis=0)
        fresh = self._n == 0
        self._origin = np.where(fresh, np.nan_to_num(rows[0].astype(np.float64), nan=0.0), self._origin)
        with np.errstate(all="ignore"):
            away = rows - self._origin
            away = away if there is None else np.where(there, away, 0.0)
            mean = away.sum(axis=0) / np.maximum(count, 1)
            left = away - mean if there is None else np.where(there, away - mean, 0.0)
            step = mean - self._mean
            n = self._n + count
            share = np.where(n > 0, count / np.maximum(n, 1), 0.0)
            self._squares += np.square(left).sum(axis=0) + step**2 * self._n * share
            self._mean = self._mean + step * share
        self._n = n

    def of(self, columns: slice) -> Moments:
        """Those of some of the columns."""
        found = Moments(0)
        for name, values in vars(self).items():
            setattr(found, name, values[columns])
        return found

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
