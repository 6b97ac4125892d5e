"""Fewer raw files than were published, or smaller ones: their rows, split as the published ones are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

from numpy.typing import NDArray

from flowbench.errors import DataError


def in_proportion(rows: NDArray[Any], published: Sequence[int]) -> list[NDArray[Any]]:
    """The rows (N, ...) cut in parts that follow each other, of sizes as the published ones and one row at the least.

    Of as many rows as were published these are the published parts.

    Raises:
        DataError: there are fewer rows than parts.
    """
    if len(rows) < len(published):
        raise DataError(f"there are {len(rows)} rows for {len(published)} splits", "get the complete file")
    ends = [round(len(rows) * end / sum(published)) for end in accumulate(published)]
    for i in range(len(ends) - 1):  # none is empty, and enough is left for those after it
        ends[i] = min(max(ends[i], (ends[i - 1] if i else 0) + 1), len(rows) - (len(ends) - 1 - i))
    return [rows[start:end] for start, end in pairwise([0, *ends])]
