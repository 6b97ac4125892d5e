"""A table read once from beginning to end, row by row with what is wrong with a row: for tables to be scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from flowbench.data.dataset import Float64


@dataclass(frozen=True)
class Fault:
    """What is wrong with a row: its ``kind`` as in "2 with a missing value", the ``message`` as in "… in row 3"."""

    kind: str
    message: str
    hint: str


@dataclass(frozen=True, eq=False)
class Records:
    """Some rows: columns of numbers (n, C), NaN where there is none, and columns of text (n,), None where missing.

    ``faults`` are those of rows, counted from 0, that a NaN does not tell: it stands there, too.
    """

    numbers: Float64
    text: Mapping[str, NDArray[Any]]
    faults: Mapping[int, Fault] = field(default_factory=dict)


class Source(Protocol):
    """Where rows come from."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its columns."""
        ...

    def read(self, numbers: Sequence[str], text: Sequence[str]) -> Iterator[Records]:
        """The rows in order, some at a time as they come. What is read once may be gone.

        Raises:
            DataError: it is damaged, or one of the columns of ``numbers`` holds something else throughout.
        """
        ...
