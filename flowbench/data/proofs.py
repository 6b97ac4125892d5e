"""Arrays in files (numpy's .npy) that are proven to be what was written before they are mapped."""

from __future__ import annotations

import hashlib
import math
from io import FileIO
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from flowbench.data import digests, known
from flowbench.data.sealing import naming
from flowbench.files import npy_header, regular_file, size_of

_CHUNK_BYTES = 1 << 24

DType = Literal["<f4", "<f8", "<i4"]

Length = Annotated[int, Field(ge=0, lt=2**48)]
Hex = Annotated[str, Field(pattern="^[0-9a-f]+$", max_length=64)]


class Proof(BaseModel):
    """All that is in the file of an array: numpy's header of this type and shape, in C order, and then its values.

    ``sha256`` is that of the shape and the values (`digests.begun`): of rows, their `digests.rows_sha256`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: DType
    shape: tuple[Length, ...] = Field(min_length=1, max_length=2)
    sha256: Hex

    @property
    def header(self) -> bytes:
        """The file as far as the values."""
        return npy_header(self.dtype, self.shape)

    @property
    def n_bytes(self) -> int:
        """The length of the file."""
        return len(self.header) + math.prod(self.shape) * np.dtype(self.dtype).itemsize


def save(path: Path, array: NDArray[Any], dtype: DType) -> Proof:
    """Write an array of this type.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("xb") as file:
        writer = ArrayWriter(file, dtype, array.shape)
        writer.write(array)
    return writer.proof


class ArrayWriter:
    """An array of this shape on its way into a file, some rows at a time; ``proof`` is there when it is whole."""

    def __init__(self, file: BinaryIO, dtype: DType, shape: tuple[int, ...]) -> None:
        self._file, self._dtype, self._shape = file, dtype, shape
        self._found = digests.begun(shape)
        file.write(npy_header(dtype, shape))

    def write(self, rows: NDArray[Any]) -> None:
        """The next rows."""
        step = max(1, _CHUNK_BYTES // max(1, rows[:1].nbytes))
        for start in range(0, len(rows), step):
            values = np.ascontiguousarray(rows[start : start + step], self._dtype).data
            self._file.write(values)
            self._found.update(values)

    @property
    def proof(self) -> Proof:
        """Of the rows that were written."""
        return Proof(dtype=self._dtype, shape=self._shape, sha256=self._found.hexdigest())


def look_at(path: Path, proof: Proof) -> None:
    """Find out as much as is possible without reading it.

    Raises:
        DamagedError: the file is not there, or of another length.
    """
    with naming(path), regular_file(path) as file:
        _refuse_length(file, proof)


def mapped(path: Path, proof: Proof) -> NDArray[Any]:
    """The array, memory-mapped, once all of its file is known to be what was written.

    Raises:
        DamagedError: it is not.
    """
    with naming(path), regular_file(path) as file:
        _refuse_length(file, proof)
        if known.digest(path, file.fileno(), "array", lambda: _digest(file, proof)) != proof.sha256:
            raise ValueError("its content is not what was written")
        array = np.memmap(file, proof.dtype, "r", len(proof.header), proof.shape)
        array.filename = str(path.absolute())  # an open file has told no name: what is computed of it goes beside it
        return array


def _refuse_length(file: FileIO, proof: Proof) -> None:
    found = size_of(file)
    if found != proof.n_bytes:
        raise ValueError(f"it has {found:,} bytes, {proof.n_bytes:,} were written")


def _digest(file: FileIO, proof: Proof) -> str:
    """Of the shape, and what is behind the header."""
    if file.read(len(proof.header)) != proof.header:
        raise ValueError("its header is not what was written")
    return hashlib.file_digest(file, lambda: digests.begun(proof.shape)).hexdigest()
