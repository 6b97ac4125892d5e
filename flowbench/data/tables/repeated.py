"""Rows of one part that are in another, too: found by a hash of their values, in memory that is bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from flowbench.data.dataset import Float64
from flowbench.data.tables.options import TRAIN

MOST_ROWS = 1 << 20
"""Are looked for, evenly spaced: 16 MiB of hashes. All rows are looked through."""

Chunks = Callable[[], Iterator[tuple[Float64, NDArray[np.int8]]]]
"""All rows (n, D) some at a time, each time with their parts (n,); from the first on at each call."""


def repeated_rows(chunks: Chunks, part: int, rows: int) -> tuple[int, int]:
    """How many of a part's ``rows`` have exactly the values of a training row, and how many were looked for."""
    stride = -(-rows // MOST_ROWS)
    found: list[NDArray[np.uint64]] = []
    start = 0
    for chunk, parts in chunks():
        own = chunk[parts == part]
        found.append(hashed(own[-start % stride :: stride]))
        start += len(own)
    hashes, counts = np.unique(np.concatenate(found), return_counts=True)
    trained = np.zeros(len(hashes), np.bool_)
    for chunk, parts in chunks():
        of_chunk = np.sort(hashed(chunk[parts == TRAIN]))  # in order, neighbours are found in one cache
        place = np.minimum(np.searchsorted(hashes, of_chunk), len(hashes) - 1)
        trained[place[hashes[place] == of_chunk]] = True
    return int(counts[trained].sum()), int(counts.sum())


def hashed(rows: Float64) -> NDArray[np.uint64]:
    """A number (n,) for each row (n, D): the same for equal ones, and for others but with a chance of about 2^-60.

    The bits of each value are stirred one to one, and then summed with odd random weights modulo 2^64. Bits that many
    numbers lack, as the low ones of what is whole or was in single precision, would otherwise be lacking in the sum.
    """
    bits = (rows + 0.0).view(np.uint64)  # in which -0 is 0
    bits ^= bits >> np.uint64(32)
    bits *= np.uint64(0x9E3779B97F4A7C15)
    bits ^= bits >> np.uint64(29)
    weights = np.random.default_rng(0).integers(0, 2**64, rows.shape[1], np.uint64) | np.uint64(1)
    return np.asarray((bits * weights).sum(axis=1, dtype=np.uint64))
