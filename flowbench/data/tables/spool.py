"""A table's rows in a temporary file: appended as they are read, then gone through as often as is needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import numpy as np
from numpy.typing import NDArray

from flowbench.data.dataset import Float64
from flowbench.data.tables.kinds import Kinds

CHUNK_VALUES = 1 << 20
"""Moved at a time: 8 MiB of float64."""

Parts = NDArray[np.int8]


class Spool:
    """Rows of float64 in a ``file``, the same each time: columns of classes and what is given ``first``, then numbers.

    ``chunks`` has them as they are, ``encoded`` with what becomes of them in their kinds.
    """

    def __init__(self, file: IO[bytes], first: int, dim: int, seed: int) -> None:
        self._file, self._first, self._columns, self._seed = file, first, first + dim, seed
        self.kinds: Kinds | None = None
        """What the numbers are; None until it is known."""
        self.codes: dict[int, NDArray[np.int32]] = {}
        """Of columns of classes, what becomes of each."""

    def append(self, rows: Float64) -> None:
        """Take rows (n, first + D)."""
        self._file.write(np.ascontiguousarray(rows).data)

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
