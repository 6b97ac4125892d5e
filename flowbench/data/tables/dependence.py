"""Columns that follow from one other, or from several: rows lie in a plane, on which a density grows without bound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowbench.data.dataset import Float64
from flowbench.seeds import stream

TWINS = 0.9999
"""Columns with a greater absolute correlation follow from each other."""

PROJECTIONS, NEARLY_TWINS = 64, 0.999
"""Numbers that a column of more rows is projected to, and the least correlation of twins there: that their distance
grows tenfold beside their length has a probability of about 1e-15."""

PRODUCTS = 1 << 23
"""Of columns, at a time: 64 MiB of float64."""

MOST_COLUMNS = 2000
"""Of a table with more, none is looked for: at 1,000 columns it takes a second, and the cost
grows with the cube of their number."""

SPARE_ROWS = 5
"""So many rows more than a combination has coefficients must agree with it: fewer always could."""

EXACT = 1e-6
"""In standard deviations of a column: what is left of it is no more than single precision makes of an exact sum."""

NEARLY = 1e-3
"""Likewise: of each column of POWER, bsds300, MNIST, the patches and the digits a hundred times as much is left."""

_CERTAIN = 5.0
"""Standard errors: a column whose coefficient is not so many from 0 is no part of a combination."""

_RESOLVED = 1e-8
"""Nor is one with a coefficient below this, of standardised columns."""


def twins(rows: Float64) -> tuple[NDArray[np.int64], Float64]:
    """For each column the first earlier one from which it follows, or -1, and their correlation, (D,) each.

    Of many rows, pairs are sought among random projections (Johnson and Lindenstrauss 1984), and then looked at.
    """
    n, dim = rows.shape
    found, correlation = np.full(dim, -1), np.zeros(dim)
    with np.errstate(all="ignore"):
        lacking = np.isnan(rows)
        if lacking.any():  # of what is missing, nothing is known
            rows = np.where(lacking, np.nansum(rows, axis=0) / np.maximum(1, (~lacking).sum(axis=0)), rows)
        normal = _unit(rows - rows.mean(axis=0) if n else rows)
    seen, least = normal, TWINS
    if n > PROJECTIONS:
        # of a stream that no table is made of: what is normal by default_rng(0) would be projected on itself
        directions = np.random.default_rng(stream(0, "projections")).standard_normal((PROJECTIONS, n))
        seen, least = _unit(directions @ normal).astype(np.float32), NEARLY_TWINS
    step = max(1, min(1024, PRODUCTS // max(1, dim)))
    for start in range(0, dim, step):
        products = seen[:, start : start + step].T @ seen[:, start:]
        alike = np.triu(np.abs(products, out=products) > least, 1)  # an earlier one with a later one
        for later in np.flatnonzero(alike.any(axis=0) & (found[start:] < 0)):
            for earlier in np.flatnonzero(alike[:, later]):
                exact = float(normal[:, start + earlier] @ normal[:, start + later])
                if abs(exact) > TWINS:
                    found[start + later], correlation[start + later] = start + earlier, exact
                    break
    return found, correlation


def _unit(columns: Float64) -> Float64:
    """Columns of length 1; of zeros where they are constant, or beyond floating point: they are refused for that."""
    with np.errstate(all="ignore"):
        unit = columns / np.sqrt(np.square(columns).sum(axis=0))
    unit[:, ~np.isfinite(unit).all(axis=0)] = 0
    return np.asarray(unit)


@dataclass(frozen=True)
class Dependence:
    """A ``column``, by its place, that follows from the ``others``.

    ``left`` is the standard deviation of what does not follow, in the column's own.
    """

    column: int
    others: tuple[int, ...]
    left: float

    @property
    def exact(self) -> bool:
        """Whether nothing is left of the column but rounding errors."""
        return self.left < EXACT


def dependences(rows: Float64) -> tuple[Dependence, ...]:
    """The columns of rows (N, D) that follow from earlier ones, exactly or nearly; NaN where a value is missing.

    It is what Gram–Schmidt, as a QR decomposition of standardised rows, leaves of each column. Rows that lack a value
    say nothing; columns beyond the number of rows are not judged.
    """
    if not 1 < rows.shape[1] <= MOST_COLUMNS:
        return ()
    rows = rows[~np.isnan(rows).any(axis=1)]
    if len(rows) <= SPARE_ROWS + 1:
        return ()
    with np.errstate(all="ignore"):
        rows -= rows.mean(axis=0)
        rows /= np.abs(rows).max(axis=0)  # first, or squares of what is far out overflow
        rows /= np.sqrt(np.square(rows).mean(axis=0))
    varies = np.flatnonzero(np.isfinite(rows).all(axis=0))
    found = _found(rows if len(varies) == rows.shape[1] else rows[:, varies])
    return tuple(Dependence(int(varies[c]), tuple(varies[others].tolist()), left) for c, others, left in found)


def _found(normal: Float64) -> Iterator[tuple[int, NDArray[np.int64], float]]:
    """Column, others and what is left of those among columns with mean 0 and variance 1, (N, D)."""
    some = normal[:: max(1, len(normal) // (2 * normal.shape[1] + 1000))]
    triangle = np.linalg.qr(some, mode="r") / np.sqrt(len(some))
    sizes = np.abs(np.diag(triangle))
    free: list[int] = []
    candidates: list[int] = []
    for column, left in enumerate(sizes):
        if len(some) < len(free) + 1 + SPARE_ROWS:
            break
        if left < 2 * NEARLY and free:
            candidates.append(column)
        if left >= EXACT:
            free.append(column)
    if not candidates:
        return
    # columns that come later have a coefficient of 0: their rows of the triangle, and a column's own, are left out
    earlier = np.where(np.array(free)[:, None] < candidates, triangle[np.ix_(free, candidates)], 0.0)
    coefficients = np.linalg.solve(triangle[np.ix_(free, free)], earlier)
    certain = _CERTAIN * sizes[candidates] / np.sqrt(len(some))
    coefficients[np.abs(coefficients) <= np.maximum(certain, _RESOLVED)] = 0.0
    remainders = normal[:, candidates] - normal[:, free] @ coefficients
    for column, own, remainder in zip(candidates, coefficients.T, remainders.T, strict=True):
        left = float(np.sqrt(np.square(remainder).mean()))
        if left < NEARLY:
            yield column, np.array(free)[own != 0], left
