"""Means and their standard errors over the rows of a split. Never imports torch."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike


def mean_and_stderr(values: ArrayLike) -> tuple[float, float]:
    """Mean of ``values`` (N,) and its standard error std/√N, in float64 and in the values' unit.

    The standard deviation is the sample's (ddof = 1). One value has no error: NaN. A value that is not finite makes the
    mean what arithmetic makes it, and the error NaN. Raises ValueError where there is no value, or not one axis.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"expected values of shape (N,) with N >= 1, got shape {array.shape}")
    with np.errstate(invalid="ignore"):  # inf - inf in the variance is NaN, which is what is promised
        mean = float(array.mean())
        stderr = float(array.std(ddof=1)) / math.sqrt(array.size) if array.size > 1 else math.nan
    return mean, stderr


def paired_difference(a: ArrayLike, b: ArrayLike) -> tuple[float, float]:
    """Mean of the differences a − b of the same N rows, and its standard error, in the values' unit.

    Rows that are hard for one model are hard for the other: the paired error is far below what the two separate
    errors suggest. Raises ValueError where the shapes are not one and the same (N,).
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:  # never broadcast: rows must be paired one to one
        raise ValueError(f"expected values of the same rows, got shapes {first.shape} and {second.shape}")
    with np.errstate(invalid="ignore"):
        differences = first - second
    return mean_and_stderr(differences)


def mean_and_stderr_by_group(values: ArrayLike, groups: ArrayLike) -> tuple[float, float]:
    """Mean of ``values`` (N,), and its standard error where rows of one of ``groups`` (N,) are not independent.

    The error is √(G/(G − 1)·Σ_g (Σ_{i in g} (x_i − mean))²)/N over the G groups, the cluster-robust one. One group has
    no error: NaN. Raises ValueError where the shapes are not one and the same (N,).
    """
    array = np.asarray(values, dtype=np.float64)
    mean, _ = mean_and_stderr(array)
    names, numbers = np.unique(np.asarray(groups), return_inverse=True)
    if numbers.shape != array.shape:
        raise ValueError(f"expected one group a value, got shapes {array.shape} and {numbers.shape}")
    if len(names) == 1 or not math.isfinite(mean):
        return mean, math.nan
    sums = np.bincount(numbers, array - mean)
    return mean, math.sqrt(len(names) / (len(names) - 1) * float(sums @ sums)) / array.size
