"""Heavy tails: whether a column has them, which transform brings them in, and what standardising them would lose.

A few values far out decide a column's standard deviation; beside it all others are one point, for a flow that sees
standardised numbers, and for float32.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowbench.data.dataset import Float64
from flowbench.data.tables.options import ASINH, LOG

GAIN = 0.9
"""In nats: what a Gaussian's likelihood must gain by asinh, as Box and Cox (An analysis of transformations, 1964)
choose one. In 20 samples of each size from 100 to 100,000 it was 0.35 at the most of exponential, Laplace and t(3)
values; of lognormal ones with σ = 1 it is more than this in one sample of fifty, of 200 values; 0.98 or more of 10,000
from t(1.5), 1.6 of 1,000 from Cauchy's."""

NARROW = 1.8
"""Standard deviations in half ranges of the middle half: the gain is at most 0.3 more than the logarithm, which it is
where a quarter of the values lies at each end of that half and the others at the median."""

OUTER, INNER = (0.05, 10, 1.75), (0.01, 5, 4.0)
"""Share and least number of the values farthest from the median, and the largest tail index that they may have: by the
first the variance is infinite, as far as the sample tells; the second leaves clusters far out alone, whose own tails
are light (POWER's submeters: 0.4 and 16)."""

FEWEST_VALUES = 100
"""Of which a tail can be told."""

MERGED = 0.1
"""A share of the values that must not become others' in float32; of 100,000 normal ones 0.005 do."""

_HALVES = (0.25, 0.1, 0.05, 0.01, 0.001, 0.0)


class Tail(NamedTuple):
    """Of a column: the ``transform`` that is proposed for it, None where its tails are not heavy.

    ``reach`` is the distance of the farthest value from the median, in half ranges of the middle half; ``merged`` is
    the share of values that standardisation makes another's in float32.
    """

    transform: str | None = None
    reach: float = 0.0
    merged: float = 0.0


def tail_of(values: Float64, positive: bool) -> Tail:
    """The tail of values (n,) in ascending order; ``positive``, whether all that the column can have are above 0.

    Where one value fills the middle half, it is that of the others.
    """
    if len(values) and values[len(values) // 4] == values[len(values) * 3 // 4]:
        values = values[values != values[len(values) // 2]]
    if len(values) < FEWEST_VALUES or values[0] == values[-1]:
        return Tail()
    merged = merged_share(values)
    location, scale = middle(values)
    with np.errstate(all="ignore"):
        away = (values - location) / scale
        reach = float(max(-away[0], away[-1]))
        if not (np.isfinite(reach) and (away / reach).std() * reach > NARROW):
            return Tail(None, reach, merged)
        by_asinh = _gain(away, np.arcsinh(away), np.log(np.hypot(1, away)))
        if not (by_asinh > GAIN and _heavy(np.sort(np.abs(away))[::-1])):
            return Tail(None, reach, merged)
        logs = np.log(values) if positive else values
        by_log = _gain(away, logs, logs - np.log(scale)) if positive else -np.inf
    return Tail(LOG if by_log >= by_asinh else ASINH, reach, merged)


def middle(values: Float64) -> tuple[float, float]:
    """Median and half the range of the middle half of values in ascending order; of more where these are one value."""
    location = _quantile(values, 0.5)
    for tail in _HALVES:
        low, high = _quantile(values, tail), _quantile(values, 1 - tail)
        if high > low:
            return location, high / 2 - low / 2
    return location, 1.0


def _quantile(values: Float64, share: float) -> float:
    """Of values in ascending order, as numpy's, which orders them again."""
    place, part = divmod(share * (len(values) - 1), 1)
    low, high = float(values[int(place)]), float(values[min(int(place) + 1, len(values) - 1)])
    return low * (1 - part) + high * part


def merged_share(values: Float64) -> float:
    """The share of values (n,) in ascending order that another one is equal to once standardised in float32."""
    with np.errstate(all="ignore"):
        farthest = np.abs(values).max()
        scaled = values / farthest  # or squares overflow
        standard = ((scaled - scaled.mean()) / scaled.std()).astype(np.float32)
    same = (standard[1:] == standard[:-1]) & (values[1:] > values[:-1])
    return float((np.append(same, False) | np.append(False, same)).mean())


def _gain(x: Float64, u: Float64, log_stretch: Float64) -> float:
    """What a Gaussian's mean log-likelihood gains by x → u, whose log|∂x/∂u| is ``log_stretch``."""
    farthest = np.abs(x).max()
    return float(np.log((x / farthest).std()) + np.log(farthest) - np.log(u.std()) - log_stretch.mean())


def _heavy(away: Float64) -> bool:
    """Whether distances in descending order fall off so slowly (Hill, A simple general approach to inference, 1975)."""
    for share, fewest, most in (OUTER, INNER):
        count = max(fewest, int(share * len(away)))
        if not count < most * np.log(away[:count] / away[count]).sum():
            return False
    return True
