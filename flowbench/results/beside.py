"""The files beside a record, which are named after their own content. Never imports torch."""

from __future__ import annotations

import functools
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowbench.files import npy_header, regular_file, small_content

Lls = NDArray[np.float64]

MOST_BYTES = 1 << 30
"""Of a file of likelihoods: 268 million test rows."""

DIGITS = 12
"""Of the digest of its content in a file's name."""


def content_digest(content: bytes | bytearray) -> str:
    """What a file beside a record is named after."""
    return hashlib.sha256(content).hexdigest()[:DIGITS]


def read(path: Path, rows: int, largest: float) -> tuple[bytes, Lls]:
    """A file's content and, of so many ``rows``, their likelihoods (rows,).

    The header is one that numpy writes of such an array, so that there is nothing in it to be believed.

    Raises:
        OSError: it cannot be read, or is not there.
        ValueError: it is no regular file, or not of so many finite numbers, or one is larger than ``largest``.
    """
    content = small_content(path, min(len(_header(rows)) + 8 * rows, MOST_BYTES))
    for kind in ("<f4", "<f8"):
        header = _header(rows, kind)
        if content.startswith(header) and len(content) == len(header) + rows * int(kind[-1]):
            values = np.frombuffer(content[len(header) :], kind).astype(np.float64)
            if not np.all(np.abs(values) <= largest):
                raise ValueError("a row's likelihood in it is no finite number, or is beyond all bounds")
            return content, values
    raise ValueError(f"it is no array of {rows:,} numbers, one for each test row")


@functools.cache  # the records of a folder are of a few test splits
def _header(rows: int, kind: str = "<f4") -> bytes:
    return npy_header(kind, (rows,))


def npy(values: NDArray[np.floating[Any]]) -> bytes:
    """The values as little-endian float32 in numpy's format."""
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(values, dtype="<f4"), allow_pickle=False)
    return buffer.getvalue()


def is_whole(path: Path) -> bool:
    """Whether a file beside a record has the content that it is named after."""
    try:
        with regular_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS] == path.stem.rpartition(".")[2]
    except (OSError, ValueError):
        return False
