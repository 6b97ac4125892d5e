"""What numpy's .npy format is: a header of which nothing is believed, then values, by rows or by columns."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from flowbench.data.dataset import Float64
from flowbench.errors import DataError, reason_of

BATCH_VALUES = 1 << 20
"""Read at a time."""

LONGEST_HEADER = 10_000
"""Bytes; numpy's own limit, which it asks for only after it has read them."""

_UNREADABLE = (OSError, EOFError, ValueError, KeyError, RuntimeError, zlib.error, zipfile.BadZipFile)
"""What damaged headers and archives, those with a password among them, make numpy and zipfile raise."""


class Header:
    """What a .npy begins with. It is text that numpy evaluates as a literal, and of which nothing is believed."""

    def __init__(self, stream: IO[bytes]) -> None:
        head = cast(IO[bytes], _Head(stream))
        version = np.lib.format.read_magic(head)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"its format has version {version}, numpy's are 1 to 3")
        # version 3 differs from 2 in the encoding of the names of fields, which numbers have none of
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        try:
            shape, self.columns_first, self.dtype = read(head)
        except Exception as error:  # a wrong literal may fail in any way, and be too deep for Python's parser
            raise ValueError(f"its header is damaged ({reason_of(error)})") from error
        if any(n < 0 for n in shape):
            raise ValueError(f"its header has the shape {shape}")
        self.shape = tuple(map(int, shape))

    @property
    def n_bytes(self) -> int:
        """What it promises to be followed by."""
        return prod(self.shape) * self.dtype.itemsize


class _Head:
    """A stream as far as a header can reach."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        if size > LONGEST_HEADER:
            raise ValueError(f"it promises a header of {size:,} bytes")
        return self._stream.read(size)


def ensure_there(header: Header, n_bytes: int) -> None:
    """Raise ValueError if fewer bytes follow a header than it promises."""
    if header.n_bytes > n_bytes:
        raise ValueError("it is shorter than its header promises")


def spans(rows: int, width: int) -> Iterator[tuple[int, int]]:
    """Where batches of rows so wide begin, and how many rows each has."""
    step = max(1, BATCH_VALUES // max(1, width))
    return ((start, min(step, rows - start)) for start in range(0, rows, step))


def by_rows(
    stream: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, int], wanted: Sequence[int]
) -> Iterator[Float64]:
    """The ``wanted`` columns of rows that follow each other in a stream."""
    rows, dim = shape
    whole = list(wanted) == list(range(dim))
    for _, count in spans(rows, dim):
        values = take(stream, dtype, count * dim).reshape(count, dim)
        yield np.ascontiguousarray(values if whole else values[:, wanted], np.float64)


def by_columns(file: IO[bytes], places: Sequence[tuple[int, np.dtype[Any]]], rows: int) -> Iterator[Float64]:
    """Columns each of which begins at its place in a file."""
    for start, count in spans(rows, len(places)):
        columns = []
        for offset, dtype in places:
            file.seek(offset + start * dtype.itemsize)
            columns.append(take(file, dtype, count))
        yield stacked(columns)


def stacked(columns: Sequence[NDArray[Any]]) -> Float64:
    """Columns (n,) side by side: (n, D)."""
    values = np.empty((len(columns[0]) if columns else 0, len(columns)))
    for i, column in enumerate(columns):
        values[:, i] = column
    return values


def take(stream: IO[bytes], dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    """The next values (count,); ValueError if there are fewer."""
    content = stream.read(count * dtype.itemsize)
    if len(content) < count * dtype.itemsize:
        raise ValueError("it is shorter than its header promises")
    return np.frombuffer(content, dtype)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever goes wrong in reading ``path`` inside becomes a DataError that names the file."""
    try:
        yield
    except _UNREADABLE as error:
        reason = reason_of(error)
        hint = "expected what numpy.save or numpy.savez writes of numbers"
        raise DataError(f"cannot read {path}: {reason}", hint) from error
