"""Reading memory-mapped arrays without filling the memory."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

_AROUND = 1 << 21  # bytes beside a touched page that may be mapped along with it: Linux maps whole folios


def is_mapped(array: Float32) -> bool:
    """Whether this is a whole memory-mapped array: neither one in memory nor a part of another."""
    return _map(array) is not None


def _map(array: Float32) -> mmap.mmap | None:
    base: Any = array.base
    return base if isinstance(base, mmap.mmap) else None


def read_rows(array: Float32, start: int, stop: int) -> Float32:
    """A copy of the rows from ``start`` to ``stop``, in memory.

    Pages of a map that have been touched count as the process's memory until they are given back; here they are. The
    system keeps them as long as it has no better use for them, so that they are cheap to read again.
    """
    rows = np.array(array[start:stop])
    pages = _map(array)
    if pages is not None and isinstance(array, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):
        width = array.strides[0]
        begin = array.offset % mmap.ALLOCATIONGRANULARITY + start * width
        first = max(0, begin - _AROUND) // mmap.PAGESIZE * mmap.PAGESIZE
        last = min(len(pages), begin + len(rows) * width + _AROUND)
        pages.madvise(mmap.MADV_DONTNEED, first, last - first)
    return rows
