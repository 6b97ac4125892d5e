"""numpy's own files in batches of rows: .npy, and .npz of one table or of named columns. Nothing is unpickled."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from flowbench.data.dataset import Float64
from flowbench.errors import DataError

BATCH_VALUES = 1 << 20
"""Read at a time."""

# what damaged headers and archives, those with a password among them, make numpy and zipfile raise
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    SyntaxError,
    RuntimeError,
    tokenize.TokenError,
    zlib.error,
    zipfile.BadZipFile,
)


class _Header:
    """What a .npy inside an archive begins with: numpy itself reads a member whole or not at all."""

    def __init__(self, stream: IO[bytes]) -> None:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"its format has version {version}, numpy's are 1 to 3")
        # version 3 differs from 2 in the encoding of the names of fields, which numbers have none of
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        self.shape, self.columns_first, self.dtype = read(stream)


class NpyPart:
    """An array (N, D) in a .npy, whose columns are named 0, 1, ...

    numpy reads the header. The values are read from the file and not from numpy's map of it: of an array of 2,000
    columns one after the other, the map brings the whole file into the process's memory, 320 MB where this takes 20.
    """

    text: frozenset[str] = frozenset()

    def __init__(self, path: Path) -> None:
        self._path = path
        with _reading(path):
            array = np.lib.format.open_memmap(path, mode="r")
        _check_array(path, array, dimensions=2)
        self._rows, dim = array.shape
        self._dtype, self._offset, self._columns_first = array.dtype, array.offset, not array.flags.c_contiguous
        self.names = tuple(str(i) for i in range(dim))

    def batches(self, columns: Sequence[str]) -> Iterator[Float64]:
        """See `files.Part`."""
        wanted, dim = [int(name) for name in columns], len(self.names)
        whole = wanted == list(range(dim))
        step = max(1, BATCH_VALUES // max(1, len(wanted) if self._columns_first else dim))
        with _reading(self._path), self._path.open("rb") as file:
            for start in range(0, self._rows, step):
                count = min(step, self._rows - start)
                if self._columns_first:
                    yield _stacked([self._values(file, i * self._rows + start, count) for i in wanted])
                else:
                    values = self._values(file, start * dim, count * dim).reshape(count, dim)
                    yield np.ascontiguousarray(values if whole else values[:, wanted], np.float64)

    def labels(self, column: str) -> Iterator[NDArray[Any]]:
        """See `files.Part`."""
        return map(as_labels, self.batches([column]))

    def _values(self, file: IO[bytes], first: int, count: int) -> NDArray[Any]:
        file.seek(self._offset + first * self._dtype.itemsize)
        return _take(file, self._dtype, count)


class NpzPart:
    """An archive of one array (N, D), as in a .npy; or of arrays (N,), each a column of its member's name."""

    text: frozenset[str] = frozenset()

    def __init__(self, path: Path) -> None:
        self._path = path
        self._headers: dict[str, _Header] = {}
        with _reading(path), zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                with archive.open(member) as stream:
                    header = _Header(stream)
                if header.dtype.hasobject:
                    raise ValueError(f"its {member} holds pickled objects")
                self._headers[member] = header
        self._table = next(iter(self._headers)) if len(self._headers) == 1 else None
        if self._table is not None and len(self._headers[self._table].shape) == 1:
            self._table = None
        for member, header in self._headers.items():
            _check_array(f"{path}: {member}", header, dimensions=2 if self._table else 1)
        if self._table:
            self.names = tuple(str(i) for i in range(self._headers[self._table].shape[1]))
            return
        self.names = tuple(member.removesuffix(".npy") for member in self._headers)
        lengths = {header.shape[0] for header in self._headers.values()}
        if len(lengths) > 1:
            raise DataError(f"{path} has columns of {min(lengths)} to {max(lengths)} rows", "expected equal lengths")

    def batches(self, columns: Sequence[str]) -> Iterator[Float64]:
        """See `files.Part`."""
        if self._table:
            wanted = [int(name) for name in columns]
            for values in self._rows(self._table):
                yield np.ascontiguousarray(values[:, wanted], np.float64)
            return
        members = [f"{name}.npy" if f"{name}.npy" in self._headers else name for name in columns]
        n = next(iter(self._headers.values())).shape[0]
        step = max(1, BATCH_VALUES // max(1, len(members)))
        with _reading(self._path), zipfile.ZipFile(self._path) as archive, ExitStack() as stack:
            streams = [stack.enter_context(archive.open(member)) for member in members]
            dtypes = [_Header(stream).dtype for stream in streams]
            for start in range(0, n, step):
                count = min(step, n - start)
                yield _stacked([_take(s, dtype, count) for s, dtype in zip(streams, dtypes, strict=True)])

    def labels(self, column: str) -> Iterator[NDArray[Any]]:
        """See `files.Part`."""
        return map(as_labels, self.batches([column]))

    def _rows(self, member: str) -> Iterator[NDArray[Any]]:
        with _reading(self._path), zipfile.ZipFile(self._path) as archive, archive.open(member) as stream:
            header = _Header(stream)
            n, dim = header.shape
            # columns one after the other cannot be read by rows from a stream: then all of it is in memory
            step = n if header.columns_first else max(1, BATCH_VALUES // max(1, dim))
            for start in range(0, n, max(1, step)):
                count = min(step, n - start)
                values = _take(stream, header.dtype, count * dim)
                yield values.reshape(dim, count).T if header.columns_first else values.reshape(count, dim)


def _check_array(where: Path | str, header: _Header | NDArray[Any], dimensions: int) -> None:
    if header.dtype.kind not in "biuf":
        hint = "convert it with array.astype(float)"
        raise DataError(f"{where} has dtype {header.dtype}, expected real numbers", hint)
    if len(header.shape) != dimensions:
        hint = "a single column is array.reshape(-1, 1)" if len(header.shape) == 1 else "reshape it to rows and columns"
        if dimensions == 1:
            hint = "an archive holds one array (rows, columns), or arrays (rows,) that are its columns"
        expected = "(rows, columns)" if dimensions == 2 else "(rows,)"
        raise DataError(f"{where} has shape {header.shape}, expected {expected}", hint)


def _stacked(columns: Sequence[NDArray[Any]]) -> Float64:
    values = np.empty((len(columns[0]) if columns else 0, len(columns)))
    for i, column in enumerate(columns):
        values[:, i] = column
    return values


def _take(stream: IO[bytes], dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    content = stream.read(count * dtype.itemsize)
    if len(content) < count * dtype.itemsize:
        raise ValueError("it is shorter than its header promises")
    return np.frombuffer(content, dtype)


def as_labels(rows: Float64) -> NDArray[Any]:
    """Numbers (n, 1) as text, with the digits that lead back to them; None where one is missing."""
    return np.asarray([None if np.isnan(value) else f"{value:.17g}" for value in rows[:, 0]], object)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        reason = str(error).strip() or type(error).__name__
        hint = "expected what numpy.save or numpy.savez writes of numbers"
        raise DataError(f"cannot read {path}: {reason}", hint) from error
