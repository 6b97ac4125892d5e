"""The Gaussian check: a value that proves a whole preprocessing in a second."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowbench.data.mapped import Float32, read_rows
from flowbench.errors import DataError, UsageError
from flowbench.files import written_whole

Float64 = NDArray[np.float64]

_CHUNK_VALUES = 2**22  # 32 MiB of float64 at a time, whatever D is
_LEAST_VARIANCE_LEFT = 1e-13


def gaussian_ll(train: Float32, test: Float32) -> Float64:
    """Log-likelihood (N_test,) in nats of each test row under the maximum-likelihood Gaussian of the training rows.

    log N(x; m, S) = -1/2 (|L^-1 (x - m)|^2 + D log 2 pi) - sum_i log L_ii with m and S = L L^T from `fit_gaussian`.

    Raises:
        DataError: the covariance is singular, so that no density exists.
    """
    dim = train.shape[1]
    mean, cholesky = fit_gaussian(lambda: _chunks(train))
    log_normaliser = 0.5 * dim * np.log(2 * np.pi) + np.sum(np.log(np.diag(cholesky)))
    # numpy's general solve, not scipy's triangular one: scipy's import costs more than this saves
    distances = [np.sum(np.linalg.solve(cholesky, rows.T) ** 2, axis=0) for rows in _centred(_chunks(test), mean)]
    return np.asarray(-0.5 * np.concatenate(distances) - log_normaliser, dtype=np.float64)


def kept_gaussian_ll(folder: Path | None, train: Float32, test: Float32) -> Float64:
    """As `gaussian_ll`; kept in ``folder``, and read from there when it is asked for again.

    Raises:
        DataError: as `gaussian_ll`.
    """
    if folder is None:
        return gaussian_ll(train, test)
    path = folder / "gaussian_ll.npy"
    with suppress(OSError, EOFError, ValueError):
        kept: Float64 = np.load(path)
        if kept.shape == (len(test),):
            return kept
    found = gaussian_ll(train, test)
    with suppress(UsageError), written_whole(path) as file:  # a cache that has become read-only is no failure
        np.save(file, found)
    return found


def fit_gaussian(chunks: Callable[[], Iterable[Float32]]) -> tuple[Float64, Float64]:
    """Mean m (D,) and Cholesky factor L (D, D) of the covariance (divided by N) of rows, all in float64.

    ``chunks`` gives the rows (n, D) some at a time, each time it is called: they need not all be in memory.

    Raises:
        DataError: the covariance is singular, so that no density exists.
    """
    rows, total = 0, np.float64(0)
    for chunk in chunks():
        rows += len(chunk)
        total = total + chunk.sum(axis=0, dtype=np.float64)
    mean: Float64 = np.asarray(total / rows)
    covariance = sum((chunk.T @ chunk for chunk in _centred(chunks(), mean)), start=np.zeros((len(mean),) * 2)) / rows
    return mean, _cholesky(covariance)


def _cholesky(covariance: Float64) -> Float64:
    try:
        cholesky: Float64 = np.asarray(np.linalg.cholesky(covariance), np.float64)
    except np.linalg.LinAlgError:
        cholesky = np.zeros_like(covariance)
    # what is left of each column's variance once the columns before it are known; rounding alone leaves about 1e-15
    if not (np.diag(cholesky) ** 2 > _LEAST_VARIANCE_LEFT * np.diag(covariance)).all():
        raise DataError(
            "the covariance of the training rows is singular: some column is a linear combination of others",
            "drop it, or add noise below the columns' resolution",
        )
    return cholesky


def _chunks(rows: Float32) -> Iterator[Float32]:
    step = max(1, _CHUNK_VALUES // rows.shape[1])
    return (read_rows(rows, start, start + step) for start in range(0, len(rows), step))


def _centred(chunks: Iterable[Float32], mean: Float64) -> Iterator[Float64]:
    return (chunk - mean for chunk in chunks)
