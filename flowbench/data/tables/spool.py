"""A table's rows in a temporary file: appended as they are read, then gone through as often as is needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from flowbench.data.dataset import Float64
from flowbench.data.tables.kinds import Kinds
from flowbench.data.tables.limits import LITTLE
from flowbench.files import ensure_room

CHUNK_VALUES = 1 << 20
"""Moved at a time: 8 MiB of float64."""

Parts = NDArray[np.int8]


class Spool:
    """Rows of float64 in a ``file``, the same each time: columns of classes and what is given ``first``, then numbers.

    ``chunks`` has them as they are, ``encoded`` with what becomes of them in their kinds. The ``folder`` must have room
    for the file and for what is written out of it, half as much: of so many ``rows`` at once, where that is known, and
    else for a while ahead as it grows.

    Raises:
        OSError: there is no room.
    """

    def __init__(self, file: IO[bytes], folder: Path, first: int, dim: int, seed: int, rows: int | None = None) -> None:
        self._file, self._folder, self._seed = file, folder, seed
        self._first, self._columns = first, first + dim
        self._length, self._checked = 0, LITTLE
        if rows is not None:
            self._ensure_room(8 * self._columns * rows)
        self.kinds: Kinds | None = None
        """What the numbers are; None until it is known."""
        self.codes: dict[int, NDArray[np.int32]] = {}
        """Of columns of classes, what becomes of each."""

    def append(self, rows: Float64) -> None:
        """Take rows (n, first + D).

        Raises:
            OSError: there is no room for many more.
        """
        length = self._length + rows.nbytes
        if length > self._checked:
            self._checked = length + LITTLE
            self._ensure_room(self._checked)
        self._file.write(np.ascontiguousarray(rows).data)
        self._length = length

    def _ensure_room(self, length: int) -> None:
        """That the file may become so long; what is little is not asked for, and is left over of what is much."""
        left = length - self._length
        if length > LITTLE:
            ensure_room(self._folder, left + length // 2 + LITTLE)

    def chunks(self, parts: Parts) -> Iterator[tuple[Float64, Parts]]:
        """The rows (n, first + D) some at a time, each time with theirs of the ``parts`` (N,)."""
        self._file.seek(0)
        step = max(1, CHUNK_VALUES // self._columns)
        for start in range(0, len(parts), step):
            rows = np.empty((min(step, len(parts) - start), self._columns))
            if self._file.readinto(rows.data.cast("B")) != rows.nbytes:  # type: ignore[attr-defined]
                raise OSError("a temporary file has become shorter")
            yield rows, parts[start : start + len(rows)]

    def numbers(self, parts: Parts) -> Iterator[Float64]:
        """The numbers alone, as they are."""
        return (rows[:, self._first :] for rows, _ in self.chunks(parts))

    def encoded(self, parts: Parts) -> Iterator[tuple[Float64, Parts]]:
        """As ``chunks``, (n, first + A + D): classes in their codes, codes of atoms, numbers with noise and bounds.

        A number that is not there is NaN.
        """
        assert self.kinds is not None
        noise = np.random.default_rng(self._seed)
        for rows, some in self.chunks(parts):
            for column, codes in self.codes.items():
                rows[:, column] = codes[rows[:, column].astype(np.int64)]
            uniform = noise.random((len(rows), self.kinds.noisy.size))
            own = self.kinds.encoded(rows[:, self._first :], uniform)
            yield np.concatenate([rows[:, : self._first], own], axis=1) if self._first else own, some
