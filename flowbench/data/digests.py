"""What tells two sets of rows apart: a digest of their content, whatever made them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from flowbench.data.mapped import Float32, read_rows

if TYPE_CHECKING:
    from hashlib import _Hash

_CHUNK_VALUES = 2**22


def rows_sha256(rows: Float32) -> str:
    """The sha256 (hex) of the rows (N, D): of their shape, and of their values as little-endian float32."""
    found = begun(rows.shape)
    step = max(1, _CHUNK_VALUES // rows.shape[1])
    for start in range(0, len(rows), step):
        found.update(read_rows(rows, start, start + step).astype("<f4", copy=False).tobytes())
    return found.hexdigest()


def begun(shape: tuple[int, ...]) -> _Hash:
    """The digest of an array of this shape, as far as its values, which are to follow in C order."""
    return hashlib.sha256(f"{shape}".encode())
