"""The Gaussian check: a value that proves a whole preprocessing in a second."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from flowbench.console import DataError
from flowbench.data.dataset import Float32, Float64

_CHUNK_VALUES = 2**22  # 32 MiB of float64 at a time, whatever D is
_LEAST_VARIANCE_LEFT = 1e-13


def gaussian_ll(train: Float32, test: Float32) -> Float64:
    """Log-likelihood (N_test,) in nats of each test row under the maximum-likelihood Gaussian of the training rows.

    log N(x; m, S) = -1/2 (|L^-1 (x - m)|^2 + D log 2 pi) - sum_i log L_ii with m and S = L L^T from `fit_gaussian`.

    Raises:
        DataError: the covariance is singular, so that no density exists.
    """
    dim = train.shape[1]
    mean, cholesky = fit_gaussian(train)
    log_normaliser = 0.5 * dim * np.log(2 * np.pi) + np.sum(np.log(np.diag(cholesky)))
    # numpy's general solve, not scipy's triangular one: scipy's import costs more than this saves
    distances = [np.sum(np.linalg.solve(cholesky, rows.T) ** 2, axis=0) for rows in _centred(test, mean)]
    return np.asarray(-0.5 * np.concatenate(distances) - log_normaliser, dtype=np.float64)


def fit_gaussian(train: Float32) -> tuple[Float64, Float64]:
    """Mean m (D,) and Cholesky factor L (D, D) of the covariance (divided by N) of ``train`` (N, D), all in float64.

    Raises:
        DataError: the covariance is singular, so that no density exists.
    """
    dim = train.shape[1]
    mean: Float64 = np.asarray(np.mean(train, axis=0, dtype=np.float64))
    covariance = sum((rows.T @ rows for rows in _centred(train, mean)), start=np.zeros((dim, dim))) / len(train)
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


def _centred(rows: Float32, mean: Float64) -> Iterator[Float64]:
    step = max(1, _CHUNK_VALUES // rows.shape[1])
    for start in range(0, len(rows), step):
        yield rows[start : start + step] - mean
