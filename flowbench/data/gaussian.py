"""The Gaussian check: a value that proves a whole preprocessing in a second."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from flowbench.data.given import features
from flowbench.data.mapped import Float32, read_rows
from flowbench.errors import DataError
from flowbench.memory import refuse_short_of_memory

Float64 = NDArray[np.float64]

_CHUNK_VALUES = 2**22  # 32 MiB of float64 at a time, whatever D is
WIDEST = 8192
"""Columns of the widest table for which it is worked out: 1.6 GB, and as many operations as a network of so many units
takes in a pass."""

_LEAST_VARIANCE_LEFT = 1e-13
_MATRICES = 3  # of D × D at a time: the covariance, a chunk's part of it, and its factor

_LEAST_LEFT_OF_GIVEN = 1e-9  # what is given may follow from other columns, and is then left out in good time


class TooWideError(DataError):
    """Rows of more columns than a covariance is worked out for; there may well be a density of them."""


def gaussian_ll(train: Float32, test: Float32, classes: Sequence[int] = ()) -> Float64:
    """Log-likelihood (N_test,) in nats of each test row under the maximum-likelihood Gaussian of the training rows.

    log N(x; m, S) = -1/2 (|L^-1 (x - m)|^2 + D log 2 pi) - sum_i log L_ii with m and S = L L^T from `fit_gaussian`.

    Of rows (N, G + D) whose first columns are given, with so many ``classes`` each (0: a number), it is log p(x | c) of
    the joint Gaussian of x and the `features` of c, as far as those are linearly independent: of their sums above,
    the terms of x.

    Raises:
        DataError: the covariance is singular, so that no density exists.
        TooWideError: it has more columns than a yardstick is worth.
    """
    dim = train.shape[1] - len(classes)
    if train.shape[1] > WIDEST:
        raise TooWideError(f"the covariance of {train.shape[1]:,} columns takes too much memory and time")
    if len(train) <= dim:  # known without the work
        raise _singular(f"{len(train):,} training rows are too few for {dim:,} columns")
    mean, covariance = _mean_and_covariance(lambda: _chunks(train, classes))
    kept = _independent(covariance, given=len(mean) - dim)
    first, cholesky = len(kept) - dim, _cholesky(covariance[np.ix_(kept, kept)])
    log_normaliser = 0.5 * dim * np.log(2 * np.pi) + np.sum(np.log(np.diag(cholesky)[first:]))
    # numpy's general solve, not scipy's triangular one: scipy's import costs more than this saves
    distances = [
        np.sum(np.linalg.solve(cholesky, rows[:, kept].T)[first:] ** 2, axis=0)
        for rows in _centred(_chunks(test, classes), mean)
    ]
    return np.asarray(-0.5 * np.concatenate(distances) - log_normaliser, dtype=np.float64)


def fit_gaussian(chunks: Callable[[], Iterable[Float32]]) -> tuple[Float64, Float64]:
    """Mean m (D,) and Cholesky factor L (D, D) of the covariance (divided by N) of rows, all in float64.

    ``chunks`` gives the rows (n, D) some at a time, each time it is called: they need not all be in memory.

    Raises:
        DataError: the covariance is singular, so that no density exists.
        ShortOfMemoryError: it takes more memory than there is.
    """
    mean, covariance = _mean_and_covariance(chunks)
    return mean, _cholesky(covariance)


def _mean_and_covariance(chunks: Callable[[], Iterable[Float32]]) -> tuple[Float64, Float64]:
    rows, total = 0, np.float64(0)
    for chunk in chunks():
        rows += len(chunk)
        total = total + chunk.sum(axis=0, dtype=np.float64)
    mean: Float64 = np.asarray(total / rows)
    refuse_short_of_memory(
        f"the covariance of {len(mean):,} columns", _MATRICES * mean.itemsize * len(mean) ** 2, "take fewer columns"
    )
    covariance = sum((chunk.T @ chunk for chunk in _centred(chunks(), mean)), start=np.zeros((len(mean),) * 2)) / rows
    return mean, np.asarray(covariance)


def _independent(covariance: Float64, given: int) -> list[int]:
    """All columns but those of the ``given`` first ones that do not vary, or follow from those before them."""
    kept: list[int] = []
    for i in range(given):
        known, own = covariance[np.ix_(kept, kept)], covariance[kept, i]
        if covariance[i, i] - own @ np.linalg.solve(known, own) > _LEAST_LEFT_OF_GIVEN * covariance[i, i]:
            kept.append(i)
    return kept + list(range(given, len(covariance)))


def _cholesky(covariance: Float64) -> Float64:
    try:
        cholesky: Float64 = np.asarray(np.linalg.cholesky(covariance), np.float64)
    except np.linalg.LinAlgError:
        cholesky = np.zeros_like(covariance)
    # what is left of each column's variance once the columns before it are known; rounding alone leaves about 1e-15
    if not (np.diag(cholesky) ** 2 > _LEAST_VARIANCE_LEFT * np.diag(covariance)).all():
        raise _singular("some column is a linear combination of others")
    return cholesky


def _singular(why: str) -> DataError:
    return DataError(
        f"the covariance of the training rows is singular: {why}, and a continuous density of such rows can grow "
        "without bound",
        "drop columns, or add noise below their resolution",
    )


def _chunks(rows: Float32, classes: Sequence[int]) -> Iterator[Float32]:
    step = max(1, _CHUNK_VALUES // (rows.shape[1] + sum(classes)))
    return (features(classes, read_rows(rows, start, start + step)) for start in range(0, len(rows), step))


def _centred(chunks: Iterable[Float32], mean: Float64) -> Iterator[Float64]:
    return (chunk - mean for chunk in chunks)
