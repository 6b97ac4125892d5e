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
    """Mean of ``values`` (N,), and its standard error where values of one group are not independent of each other.

    With x̄ the mean of all N values, G groups and e_g = Σ_{i in g} (x_i − x̄), it is

        s.e.² = G/(G − 1) · Σ_g e_g² / N²,

    the cluster-robust variance of a mean (Liang and Zeger 1986, "Longitudinal data analysis using generalized linear
    models", for the model of a constant; the factor is the usual one for few groups, Cameron and Miller 2015, "A
    practitioner's guide to cluster-robust inference", section II.B). With each value a group of its own it is
    `mean_and_stderr`; with few groups it is uncertain itself, and too small rather than too large.

    ``groups`` (N,) are whole numbers, equal where values are of one group. One group has no error: NaN. Raises
    ValueError where the shapes are not one and the same (N,) with N >= 1.
    """
    array, labels = np.asarray(values, dtype=np.float64), np.asarray(groups)
    if array.shape != labels.shape:
        raise ValueError(f"expected a group for each value, got shapes {array.shape} and {labels.shape}")
    mean, _ = mean_and_stderr(array)
    _, number = np.unique(labels, return_inverse=True)
    with np.errstate(invalid="ignore"):
        sums = np.bincount(number, weights=array - mean)
    if len(sums) == 1:
        return mean, math.nan
    return mean, math.sqrt(len(sums) / (len(sums) - 1) * float(np.square(sums).sum())) / array.size
