"""A curve in one line of text."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
"""Of a value that is low to one that is high."""

NOT_FINITE = "×"

MOST_KEPT = 512
"""Values of a `Curve`: many more than a line has characters."""


class Curve:
    """Numbers that come one after the other, of which so many are kept as can be shown: all, every second, …"""

    def __init__(self, values: Iterable[float] = ()) -> None:
        self._kept: list[float] = []
        self._each, self._come = 1, 0
        for value in values:
            self.add(value)

    def add(self, value: float) -> None:
        """One more."""
        self._come += 1
        if self._come % self._each == 0:
            self._kept.append(value)
        if len(self._kept) == MOST_KEPT:
            del self._kept[::2]
            self._each *= 2

    def line(self, width: int) -> str:
        """Its sparkline, so many characters wide at the most."""
        return sparkline(self._kept, width)


def sparkline(values: Sequence[float], width: int) -> str:
    """A block for each value, or for the median of as many as share a character; nothing of fewer than two.

    The scale ends at the highest value and begins at the lowest tenth of the later half, since the first epochs of a
    training would leave no height for the others: what is lower is at the bottom. One that is not finite is a ``×``.
    """
    if len(values) < 2 or width < 1:
        return ""
    columns = min(width, len(values))
    edges = [len(values) * i // columns for i in range(columns + 1)]
    shown = [_middle(values[lo:hi]) for lo, hi in itertools.pairwise(edges)]
    finite = [value for value in shown if math.isfinite(value)]
    late = sorted(value for value in shown[columns // 2 :] if math.isfinite(value)) or sorted(finite)
    low, high = (late[len(late) // 10], max(finite)) if finite else (0.0, 0.0)
    return "".join(_block(value, low, high) for value in shown)


def _middle(values: Sequence[float]) -> float:
    """The median of those that are finite: one of them, so that no sum is beyond floating point."""
    finite = [value for value in values if math.isfinite(value)]
    return statistics.median_low(finite) if finite else math.nan


def _block(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return NOT_FINITE
    if not low < high:
        return BLOCKS[len(BLOCKS) // 2] if value >= low else BLOCKS[0]
    share = min(1.0, max(0.0, (value / 2 - low / 2) / (high / 2 - low / 2)))
    return BLOCKS[round(share * (len(BLOCKS) - 1))]
