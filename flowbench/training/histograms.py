"""Values counted in bins, and how far two distributions are apart."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowbench.results.fields import LARGEST
from flowbench.results.sketch import BINS

Float64 = NDArray[np.float64]

DIGITS = 5
"""That a picture shows."""

TAIL, ROOM = 0.005, 0.05
"""The share of the values that may lie beyond the bins at either end, and the room that is left around the others."""

_GOLDEN = (math.sqrt(5) - 1) / 2


def evenly_spread(n: int, most: int) -> NDArray[np.intp]:
    """At the most so many of n places, evenly spread, and so are the first few of them, however many are taken."""
    count = min(n, most)
    places = np.arange(count, dtype=np.intp)
    return (places * n // max(1, count))[np.argsort(places * _GOLDEN % 1, kind="stable")]


def edges(values: Float64, step: float = 0.0) -> tuple[float, float] | None:
    """Where bins begin and end that hold the bulk of these finite values; None where there is none, or it is too far.

    Values that come in steps have equally many of them in each bin, or lie in the middle of one.
    """
    if not len(values):
        return None
    low, high = (float(each) for each in np.quantile(values, [TAIL, 1 - TAIL], method="nearest"))
    if step and (high - low) / step < LARGEST:
        steps = round((high - low) / step) + 1
        at_once = 1 / _odd(BINS // steps) if steps <= BINS else -(-steps // BINS)
        low -= step / 2
        high = low + BINS * at_once * step
    else:
        room = ROOM * (high - low) or max(abs(low), 1.0) * 1e-3
        low, high = low - room, high + room
    width = high - low
    if not (width > 0 and max(-low, high) < LARGEST):
        return None
    return rounded(low, width), rounded(high, width)


def _odd(n: int) -> int:
    return n - 1 + n % 2


def step_of(values: Float64, width: float) -> float:
    """What these values are multiples of: ``width`` if it is known, 1 of whole numbers, else 0."""
    return width or float(len(values) > 0 and bool((values == np.rint(values)).all()))


def counted(values: Float64, low: float, high: float) -> list[int]:
    """How many values lie below, in each of `BINS` equal bins, and above; what is no number is nowhere."""
    inside = np.histogram(values[np.isfinite(values)], BINS, (low, high))[0]
    return [int((values < low).sum()), *inside.tolist(), int((values > high).sum())]


def distance(a: Float64, b: Float64) -> float:
    """Of Kolmogorov and Smirnov, of two samples; 0 where one has nothing to compare."""
    if not (len(a) and len(b)):
        return 0.0
    places = np.sort(np.concatenate([a, b]))
    shares = [np.searchsorted(np.sort(each), places, side="right") / len(each) for each in (a, b)]
    return short(float(np.abs(shares[0] - shares[1]).max()))


def distances_from_normal(u: Tensor) -> list[float]:
    """Of Kolmogorov and Smirnov, of each column of u (N, D) and a standard normal variable."""
    p, up = torch.special.ndtr(u.sort(0).values), torch.arange(1, len(u) + 1, dtype=u.dtype)[:, None] / len(u)
    found = torch.maximum(up - p, p - up + 1 / len(u)).amax(0).clamp(0, 1)
    return [short(each) for each in found.tolist()]


def short(value: float) -> float:
    """With as many digits as a picture shows."""
    return float(f"{value:.{DIGITS}g}")


def rounded(value: float, width: float) -> float:
    """With as many digits as a picture shows of an axis so wide, wherever on it that is."""
    return round(value, DIGITS - math.floor(math.log10(width)))
