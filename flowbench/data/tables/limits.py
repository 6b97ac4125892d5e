"""How much of a table is believed: what a file says of itself is held against what it can hold, before all else."""

from __future__ import annotations

from pathlib import Path

from rich.filesize import decimal

from flowbench.errors import DataError

MOST_COLUMNS = 200_000
"""Far more than can be trained on: each layer of a flow has thousands of weights for each."""

LITTLE = 256 << 20
"""Bytes of a table (as float64) up to which nobody asks how small its file is, or for room on the disk."""

MOST_EXPANSION = 1000
"""Of an archive; deflate does no more than 1,032, and that of bytes that are all the same."""


def refuse_wide(path: Path | str, columns: int) -> None:
    """Refuse, before a name is made of each, more columns than any flow can have."""
    if columns > MOST_COLUMNS:
        raise DataError(
            f"{path} has {columns:,} columns, and {MOST_COLUMNS:,} are the most that flowbench reads",
            "is it transposed, or damaged? rows are observations",
        )


def refuse_expanding(path: Path, n_bytes: int, held: int) -> None:
    """Refuse what would become ``n_bytes`` and of which the disk holds so little that it can but repeat itself."""
    if n_bytes > max(LITTLE, MOST_EXPANSION * held):
        raise _all_alike(path, f"{decimal(n_bytes)} come of {decimal(held)}")


def refuse_alike(path: Path, rows: int, columns: int, held: int) -> None:
    """Refuse more rows than there are bits: each row that is drawn from a density has a few of its own."""
    if 8 * rows * columns > LITTLE and rows > 8 * held:
        raise _all_alike(path, f"{rows:,} rows come of {decimal(held)}, less than a bit for each")


def _all_alike(path: Path, what: str) -> DataError:
    return DataError(
        f"{path}: {what}: its rows can but be nearly all alike",
        "no density can be learnt of such; if it is meant so, write it as a .npy (numpy.save)",
    )
