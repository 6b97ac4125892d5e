"""The files beside a record, which are named after their own content. Never imports torch."""

from __future__ import annotations

import functools
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIGITS = 12
"""Of the digest of its content in a file's name."""


def content_digest(content: bytes | bytearray) -> str:
    """What a file beside a record is named after."""
    return hashlib.sha256(content).hexdigest()[:DIGITS]


def array(content: bytes) -> NDArray[Any]:
    """As `np.load` has it; of rows as `npy` writes them without parsing their header, which takes longer than they."""
    rows = max(len(content) - len(_header(0)), 0) // 4
    header = _header(rows)
    if content.startswith(header) and len(content) == len(header) + 4 * rows:
        return np.frombuffer(content, "<f4", offset=len(header))
    return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))


@functools.cache
def _header(rows: int) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": (rows,)})
    return out.getvalue()


def npy(values: NDArray[np.floating[Any]]) -> bytes:
    """The values as little-endian float32 in numpy's format."""
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(values, dtype="<f4"), allow_pickle=False)
    return buffer.getvalue()


def is_whole(path: Path) -> bool:
    """Whether a file beside a record has the content that it is named after."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS] == path.stem.rpartition(".")[2]
    except OSError:
        return False
