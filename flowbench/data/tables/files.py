"""A user's own table in files: CSV, TSV, Parquet, .npy or .npz, read in batches of rows, and never unpickled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from flowbench import console
from flowbench.data.dataset import Float64
from flowbench.data.tables.arrays import NpyPart, NpzPart
from flowbench.data.tables.arrow import CsvPart, ParquetPart
from flowbench.data.tables.limits import refuse_expanding
from flowbench.errors import DataError, UsageError, did_you_mean


class Part(Protocol):
    """One file of a table."""

    names: tuple[str, ...]
    """Its columns as they are: nothing has been checked."""

    text: frozenset[str]
    """Those that do not hold numbers, as far as is known before all of the file is read."""

    @property
    def rows(self) -> int | None:
        """How many rows there are, if that is known before all of the file is read."""
        ...

    def batches(self, columns: Sequence[str]) -> Iterator[Float64]:
        """The rows in order, some (n, D) at a time, with these columns; a missing value is NaN."""
        ...

    def labels(self, column: str) -> Iterator[NDArray[Any]]:
        """One column as text or None where a value is missing, some (n,) at a time."""
        ...


OPENERS: dict[str, Callable[[Path], Part]] = {
    ".csv": partial(CsvPart, delimiter=","),
    ".tsv": partial(CsvPart, delimiter="\t"),
    ".parquet": ParquetPart,
    ".npy": NpyPart,
    ".npz": NpzPart,
}
"""How each kind is opened; a file that is damaged raises a DataError."""

KINDS = f"{', '.join(list(OPENERS)[:-1])} or {list(OPENERS)[-1]}"


@dataclass(frozen=True, eq=False)
class TableFile:
    """A table in a file, or in the files of a folder one after the other in the order of their names.

    It is read as often as it is iterated over, and only some megabytes of it are in memory at a time.
    """

    path: Path
    files: tuple[Path, ...]
    columns: tuple[str, ...]
    parts: tuple[Part, ...]

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[Float64]:
        """The rows in order, (n, D) float64 at a time, of all columns or of these in this order.

        A missing value is NaN. Rows of a batch are contiguous in memory.

        Raises:
            UsageError: there is no such column.
            DataError: the file is damaged, or a column is not numeric.
        """
        wanted = self.columns if columns is None else tuple(columns)
        for name in set(wanted).difference(self.columns):
            self.require(name)
        for part in self.parts:
            yield from part.batches(wanted)

    def labels(self, column: str) -> Iterator[NDArray[Any]]:
        """One column as text, (n,) objects at a time: str, or None where a value is missing.

        Raises:
            UsageError: there is no such column.
            DataError: the file is damaged.
        """
        self.require(column)
        for part in self.parts:
            yield from part.labels(column)

    @property
    def rows(self) -> int | None:
        """How many rows there are, if that is known before they are read."""
        counts = [part.rows for part in self.parts]
        return None if None in counts else sum(n for n in counts if n is not None)

    def is_text(self, column: str) -> bool:
        """Whether a file of the table is known to hold something else than numbers in this column."""
        return any(column in part.text for part in self.parts)

    def locate(self, row: int) -> tuple[Path, int]:
        """What to call a row of all those that were read, from 1: where it is, and its number there."""
        return self.path, row

    def require(self, column: str) -> None:
        """Raise UsageError unless the table has this column."""
        if column not in self.columns:
            raise UsageError(f"{self.path} has no column {column!r}", did_you_mean(column, self.columns))


def open_table(path: Path) -> TableFile:
    """The table in ``path``, opened as far as the names of its columns.

    A folder's files must be of one kind and have the same columns; files whose names begin with a dot or an
    underscore, as those do that Spark leaves beside its own, are passed over.

    Raises:
        DataError: it is missing, unreadable or of another kind, or has duplicate or nameless columns.
    """
    files = _files(path)
    parts = tuple(OPENERS[file.suffix.lower()](file) for file in files)
    for file, part in zip(files, parts, strict=True):
        check_names(file, part.names)
        if set(part.names) != set(parts[0].names):
            other = min(set(part.names) ^ set(parts[0].names))
            raise DataError(
                f"{file} and {files[0]} have different columns: only one of them has {other!r}",
                "a folder's files are parts of one table: give them the same columns",
            )
    labels = [name for name in parts[0].names if name.startswith("__index_level_")]
    if labels:  # how pandas stores a nameless index in Parquet: row labels, not data
        console.note(f"{path}: left out the pandas index ({', '.join(labels)})")
    return TableFile(path, files, tuple(name for name in parts[0].names if name not in labels), parts)


def _files(path: Path) -> tuple[Path, ...]:
    if path.is_dir():
        files = tuple(sorted(file for file in path.iterdir() if file.is_file() and file.name[0] not in "._"))
        kinds = sorted({file.suffix.lower() for file in files})
        if len(kinds) != 1:
            found = f"files of more than one kind ({', '.join(kind or 'no suffix' for kind in kinds)})"
            raise DataError(f"{path} has {found if kinds else 'no files'}", f"expected {KINDS} files of one kind")
    else:
        files = (path,)
    for file in files:
        if not file.is_file():
            raise DataError(f"there is no file {file}", f"give a path to a {KINDS} file, or to a folder of such")
        if file.suffix.lower() not in OPENERS:
            raise DataError(f"flowbench cannot read files like {file}", f"it reads {', '.join(OPENERS)}")
        status = file.stat()
        if status.st_size == 0:
            raise DataError(f"{file} is an empty file", "expected a table with rows")
        if blocks := getattr(status, "st_blocks", 0):  # of 512 bytes; zeros that were never written take none
            refuse_expanding(file, status.st_size, 512 * blocks)
    return files


def check_names(path: Path | str, names: Sequence[str]) -> None:
    """Refuse names that are there twice, empty ones, and none at all."""
    repeated = [name for name, n in Counter(names).items() if n > 1]
    if repeated:
        raise DataError(f"{path} has more than one column {repeated[0]!r}", "give each column its own name")
    if "" in names:
        hint = "name it; or if it is the index that pandas writes, save with to_csv(index=False)"
        raise DataError(f"column {names.index('') + 1} of {path} has no name", hint)
    if not names:
        raise DataError(f"{path} has no columns", "expected at least one column of numbers")
