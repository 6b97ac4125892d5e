"""numpy's own files in batches of rows: .npy, and .npz of one table or of named columns. Nothing is unpickled."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from flowbench.data.dataset import Float64
from flowbench.data.tables.limits import refuse_expanding, refuse_wide
from flowbench.data.tables.npy import (
    BATCH_VALUES,
    Header,
    by_columns,
    by_rows,
    ensure_there,
    reading,
    spans,
    stacked,
    take,
)
from flowbench.errors import DataError
from flowbench.files import ensure_room

STREAMS = 256
"""Members of an archive that are unpacked at the same time at the most: each takes some 50 KB."""

_COPIED = 1 << 20


class NpyPart:
    """An array (N, D) in a .npy, whose columns are named 0, 1, ...

    The values are read from the file and not from numpy's map of it: of an array of 2,000 columns one after the other,
    the map brings the whole file into the process's memory, 320 MB where this takes 20.
    """

    text: frozenset[str] = frozenset()

    def __init__(self, path: Path) -> None:
        self._path = path
        with reading(path), path.open("rb") as file:
            header = Header(file)
            self._offset = file.tell()
            there = os.fstat(file.fileno()).st_size - self._offset
        _check_array(path, header, dimensions=2)
        with reading(path):
            ensure_there(header, there)
        self.rows, self._dim = header.shape
        self._dtype, self._columns_first = header.dtype, header.columns_first and 1 not in header.shape
        self.names = _numbers(self._dim)

    def batches(self, columns: Sequence[str]) -> Iterator[Float64]:
        """See `files.Part`."""
        wanted, dim = [int(name) for name in columns], self._dim
        size = self._dtype.itemsize
        with reading(self._path), self._path.open("rb") as file:
            if self._columns_first:
                places = [(self._offset + i * self.rows * size, self._dtype) for i in wanted]
                yield from by_columns(file, places, self.rows)
                return
            file.seek(self._offset)
            yield from by_rows(file, self._dtype, (self.rows, dim), wanted)

    def labels(self, column: str) -> Iterator[NDArray[Any]]:
        """See `files.Part`."""
        return map(as_labels, self.batches([column]))


class NpzPart:
    """An archive of one array (N, D), as in a .npy; or of arrays (N,), each a column of its member's name.

    What it is has been said by somebody: by the names and lengths of members, by their headers, and by what unpacks.
    All must agree, and none is more than a file of this size can hold.
    """

    text: frozenset[str] = frozenset()

    def __init__(self, path: Path) -> None:
        self._path = path
        self._headers: dict[str, Header] = {}
        with reading(path), zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            refuse_wide(path, len(members))
            _check_members(members, path.stat().st_size)
            for member in members:
                with archive.open(member) as stream:
                    header = Header(stream)
                    if header.dtype.hasobject:
                        raise ValueError(f"its {member.filename} holds pickled objects")
                    ensure_there(header, member.file_size - stream.tell())
                self._headers[member.filename] = header
        held = sum(member.compress_size for member in members)
        refuse_expanding(path, sum(header.n_bytes for header in self._headers.values()), held)
        self._table = next(iter(self._headers)) if len(self._headers) == 1 else None
        if self._table is not None and len(self._headers[self._table].shape) == 1:
            self._table = None
        for name, header in self._headers.items():
            _check_array(f"{path}: {name}", header, dimensions=2 if self._table else 1)
        if self._table:
            self.rows, dim = self._headers[self._table].shape
            self.names = _numbers(dim)
            return
        self.names = tuple(name.removesuffix(".npy") for name in self._headers)
        lengths = {header.shape[0] for header in self._headers.values()}
        if len(lengths) > 1:
            raise DataError(f"{path} has columns of {min(lengths)} to {max(lengths)} rows", "expected equal lengths")
        self.rows = next(iter(lengths), 0)

    def batches(self, columns: Sequence[str]) -> Iterator[Float64]:
        """See `files.Part`."""
        if self._table:
            yield from self._of_table(self._table, [int(name) for name in columns])
            return
        members = [f"{name}.npy" if f"{name}.npy" in self._headers else name for name in columns]
        if len(members) > STREAMS:
            yield from self._unpacked(members)
            return
        with reading(self._path), zipfile.ZipFile(self._path) as archive, ExitStack() as stack:
            streams = [stack.enter_context(archive.open(member)) for member in members]
            dtypes = [Header(stream).dtype for stream in streams]
            for _, count in spans(self.rows, len(members)):
                yield stacked([take(s, dtype, count) for s, dtype in zip(streams, dtypes, strict=True)])

    def labels(self, column: str) -> Iterator[NDArray[Any]]:
        """See `files.Part`."""
        return map(as_labels, self.batches([column]))

    def _of_table(self, member: str, wanted: Sequence[int]) -> Iterator[Float64]:
        header = self._headers[member]
        if header.columns_first and 1 not in header.shape:
            yield from self._unpacked([member], wanted)
            return
        with reading(self._path), zipfile.ZipFile(self._path) as archive, archive.open(member) as stream:
            Header(stream)
            yield from by_rows(stream, header.dtype, (self.rows, len(self.names)), wanted)

    def _unpacked(self, members: Sequence[str], wanted: Sequence[int] = (0,)) -> Iterator[Float64]:
        """The ``wanted`` columns of each member: columns one after the other cannot be read by rows from a stream."""
        places: list[tuple[int, np.dtype[Any]]] = []
        with reading(self._path), tempfile.SpooledTemporaryFile(max_size=8 * BATCH_VALUES) as file:
            with _unpacking(self._path):
                ensure_room(Path(tempfile.gettempdir()), sum(self._headers[name].n_bytes for name in members))
            with zipfile.ZipFile(self._path) as archive:
                for member in members:
                    header, start = self._headers[member], file.tell()
                    places += [(start + i * self.rows * header.dtype.itemsize, header.dtype) for i in wanted]
                    with archive.open(member) as stream:
                        Header(stream)
                        for piece in _pieces(stream, header.n_bytes):
                            with _unpacking(self._path):
                                file.write(piece)
            yield from by_columns(cast(IO[bytes], file), places, self.rows)


def _numbers(dim: int) -> tuple[str, ...]:
    return tuple(str(i) for i in range(dim))


def _check_members(members: Sequence[zipfile.ZipInfo], n_bytes: int) -> None:
    """Refuse what numpy does not write, and archives that expand without end, in a file of ``n_bytes``."""
    for name, n in Counter(member.filename for member in members).items():
        if n > 1:
            raise ValueError(f"it has {n:,} members of the name {name}")
    for member in members:
        # others unpack whatever a piece of them expands to, all at once
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"its {member.filename} is compressed in a way that numpy's are not")
    if sum(member.compress_size for member in members) > n_bytes:
        raise ValueError("its members overlap")


@contextmanager
def _unpacking(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "make room, or name another folder with TMPDIR; or write it with rows one after the other, as numpy does"
        raise DataError(f"{path} cannot be unpacked: {error.strerror or error}", hint) from error


def _pieces(stream: IO[bytes], n_bytes: int) -> Iterator[bytes]:
    """The next bytes of a stream, so many in all."""
    left = n_bytes
    while left:
        piece = stream.read(min(left, _COPIED))
        if not piece:
            raise ValueError("it is shorter than its header promises")
        yield piece
        left -= len(piece)


def _check_array(where: Path | str, header: Header, dimensions: int) -> None:
    if header.dtype.hasobject:
        raise DataError(f"{where} holds Python objects, expected real numbers", "convert it with array.astype(float)")
    if header.dtype.kind not in "biuf":
        hint = "convert it with array.astype(float)"
        raise DataError(f"{where} has dtype {header.dtype}, expected real numbers", hint)
    if len(header.shape) != dimensions:
        hint = "a single column is array.reshape(-1, 1)" if len(header.shape) == 1 else "reshape it to rows and columns"
        if dimensions == 1:
            hint = "an archive holds one array (rows, columns), or arrays (rows,) that are its columns"
        expected = "(rows, columns)" if dimensions == 2 else "(rows,)"
        raise DataError(f"{where} has shape {header.shape}, expected {expected}", hint)
    if dimensions == 2:
        refuse_wide(where, header.shape[1])


def as_labels(rows: Float64) -> NDArray[Any]:
    """Numbers (n, 1) as text, with the digits that lead back to them; None where one is missing."""
    return np.asarray([None if np.isnan(value) else f"{value:.17g}" for value in rows[:, 0]], object)
