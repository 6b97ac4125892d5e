"""The step of a column: the greatest decimal number of which all differences of its values are multiples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowbench.data.dataset import Float64

_NONE = 16  # decimal places; float64 has no more

_COARSER = 8
"""A step must be so many times the resolution of the numbers, of which all floats are multiples: that ten continuous
values or more have a coarser one by chance has a probability of 1e-9."""

_FAR_COARSER = 1e3
"""So many times a tolerance must a step be: that ten continuous values are within it by chance has one of 1e-27."""

_FINEST = 1e-8
"""Of the spread of a column's values. What is written in text has some last place; noise as fine as that would not
survive in float32, nor is it worth the time to look for it in millions of rows."""


class Steps:
    """Takes rows (n, D), and knows each column's step over all of them.

    A column is tried with 0, 1, 2, ... decimal places until all its values have no more, exactly: rounded to so many
    places they are the same float64, or the same float32. Its step is then the greatest common divisor in the last
    place, 5 in 10^-2 say. A column of continuous values is given up at the first rows.
    """

    def __init__(self, dim: int) -> None:
        self._places = np.zeros(dim, np.int64)
        self._divisor = np.zeros(dim, np.int64)
        self._origin: Float64 | None = None

    def add(self, rows: Float64) -> None:
        """Take rows (n, D) of finite numbers."""
        if self._origin is None:
            self._origin = rows[0].copy()
        for places in range(_NONE):
            at = np.flatnonzero(self._places == places)
            if at.size:
                fits = _fits(rows[:, at], places, self._origin[at])
                self._places[at[~fits]] += 1
                self._divisor[at[~fits]] *= 10
                self._divide(rows, at[fits], places)

    def _divide(self, rows: Float64, at: NDArray[np.int64], places: int) -> None:
        at = at[self._divisor[at] != 1]  # which divides all
        if at.size and self._origin is not None:
            multiples = np.rint((rows[:, at] - self._origin[at]) * 10.0**places).astype(np.int64)
            self._divisor[at] = np.gcd(np.gcd.reduce(multiples, axis=0), self._divisor[at])

    @property
    def whole(self) -> NDArray[np.bool_]:
        """Columns (D,) of whole numbers only."""
        return self._places == 0

    def steps(self, farthest: Float64) -> Float64:
        """The step of each column (D,), NaN where it has none; ``farthest`` are the greatest absolute values."""
        with np.errstate(all="ignore"):
            steps = self._divisor / 10.0**self._places
            resolved = self.whole | (steps >= _COARSER * np.finfo(np.float64).eps * farthest)
        return np.where((self._places < _NONE) & (self._divisor > 0) & resolved, steps, np.nan)


def _fits(values: Float64, places: int, origin: Float64) -> NDArray[np.bool_]:
    """Whether a column of values (n, D), or of their differences from its ``origin``, has no more decimal places."""
    with np.errstate(all="ignore"):
        farthest = np.abs(values).max(axis=0)
        rounded = np.rint(values * 10.0**places) / 10.0**places
        if places == 0:
            # beyond 2^53 every float64 is whole
            return np.asarray((rounded == values).all(axis=0) & (farthest < 2.0**53))
        usable = 10.0**-places >= _FINEST * (values.max(axis=0) - values.min(axis=0))
        fits = np.zeros(values.shape[1], np.bool_)
        for kind in (np.float64, np.float32):
            resolved = 10.0**-places >= _COARSER * np.finfo(kind).eps * farthest
            fits |= usable & resolved & (rounded.astype(kind) == values).all(axis=0)
        # what was moved, as by its mean, has rounding errors instead of digits
        away = values - origin
        error = 4 * np.finfo(np.float64).eps * farthest
        moved = (np.abs(np.rint(away * 10.0**places) / 10.0**places - away) <= error).all(axis=0)
        return fits | (usable & moved & (10.0**-places >= _FAR_COARSER * error))
