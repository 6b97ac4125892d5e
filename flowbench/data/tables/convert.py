"""A table of any size to standardised float32 splits on disk, some megabytes at a time.

First the source is read once, into a temporary file of float64 rows, and its profile taken. When the number of rows is
known they are split; the training rows' mean and standard deviation are taken from that file, and it is written out
standardised, from float64: values far from zero beside their spread (times of day in seconds since 1970, say) would be
lost in float32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from flowbench import console
from flowbench.data import cache
from flowbench.data.dataset import Float64
from flowbench.data.given import GivenColumn
from flowbench.data.moments import Moments
from flowbench.data.preprocessing import Dequantise, Standardise
from flowbench.data.tables.files import TableFile
from flowbench.data.tables.fitness import noise_widths, refuse_unfit, refuse_unscalable
from flowbench.data.tables.given import Classes, complete, numbered, with_given
from flowbench.data.tables.options import TRAIN, Seeds, TableOptions, assign
from flowbench.data.tables.profile import Profiler
from flowbench.errors import DataError
from flowbench.seeds import stream

CHUNK_VALUES = 1 << 20
"""Moved at a time: 8 MiB of float64."""


def convert(
    source: TableFile, columns: Sequence[str], options: TableOptions, seeds: Seeds, place: Path, fingerprint: str
) -> None:
    """Write the splits of these columns to the folder ``place``, as `cache.read` reads them, and what is said of them.

    Raises:
        DataError: the table is damaged, or no density can be learnt of it.
        OSError: ``place`` cannot be written.
    """
    path, first = source.path, len(options.given)
    classes = Classes(source, [name for name in options.given if name in options.classes or source.is_text(name)])
    with tempfile.TemporaryFile(dir=place) as file:
        rows = _Rows(file, first + len(columns), stream(seeds.noise, "noise"))
        profiler = Profiler(columns)
        groups = _spool(source, columns, options, classes, profiler, rows)
        profile = profiler.profile()
        said = profile.lines()
        say(path, said if profile.rows else [])
        refuse_unfit(path, profile, options)
        widths = noise_widths(path, profile, options)
        rows.widths[first:] = widths
        parts = assign(profile.rows, options, seeds, groups)
        given = _settle(rows, parts, options.given, classes)
        moments = Moments(first + len(columns))
        for chunk, part in rows.chunks(parts):
            moments.add(chunk[part == TRAIN])
        location, scale = moments.mean, moments.deviation
        refuse_unscalable(path, profile, widths, moments.constant[first:], location[first:], scale[first:])
        given = _scaled(given, location, np.where(moments.constant, 1.0, scale))
        location[:first], scale[:first] = [column.location for column in given], [column.scale for column in given]
        shapes = _write(place, rows, parts, location, scale)
    noisy = {name: float(width) for name, width in zip(columns, widths, strict=True) if width}
    if noisy:
        said.append(f"  noise added    {', '.join(f'{name!r} [0, {width:g})' for name, width in noisy.items())}")
        console.note(said[-1])
    if given:
        said.append(f"  given          {', '.join(map(str, given))}")
        console.note(said[-1])
    noise = (Dequantise.of(widths, profile.low),) if noisy else ()
    steps = (*noise, Standardise.of(location[first:], scale[first:]))
    cache.write_meta(place, fingerprint, shapes, tuple(columns), steps, said, given, path)


def say(path: Path, profile: Sequence[str]) -> None:
    """Print the lines of a table's profile under its name."""
    for i, line in enumerate(profile):
        console.note(line if i else f"{path.name}: {line}")


class _Rows:
    """Rows in a file of float64: appended, then read from the first on as often as wanted, the same each time."""

    def __init__(self, file: IO[bytes], dim: int, seed: int) -> None:
        self._file = file
        self._dim = dim
        self._seed = seed
        self.widths = np.zeros(dim)
        """Of the uniform noise (D,) that is added to what is read."""
        self.codes: dict[int, NDArray[np.int32]] = {}
        """Of columns of whole numbers, what becomes of each."""

    def append(self, rows: Float64) -> None:
        self._file.write(np.ascontiguousarray(rows).data)

    def chunks(self, parts: NDArray[np.int8]) -> Iterator[tuple[Float64, NDArray[np.int8]]]:
        """The rows (n, D) some at a time, each time with theirs of the ``parts`` (N,)."""
        self._file.seek(0)
        noise = np.random.default_rng(self._seed)
        noisy = np.flatnonzero(self.widths)
        step = max(1, CHUNK_VALUES // self._dim)
        for start in range(0, len(parts), step):
            rows = np.empty((min(step, len(parts) - start), self._dim))
            if self._file.readinto(rows.data.cast("B")) != rows.nbytes:  # type: ignore[attr-defined]
                raise OSError("a temporary file has become shorter")
            if noisy.size:
                rows[:, noisy] += noise.random((len(rows), noisy.size)) * self.widths[noisy]
            for column, codes in self.codes.items():
                rows[:, column] = codes[rows[:, column].astype(np.int64)]
            yield rows, parts[start : start + len(rows)]


def _spool(
    source: TableFile, columns: Sequence[str], options: TableOptions, classes: Classes, profiler: Profiler, out: _Rows
) -> NDArray[np.int32] | None:
    """Write the rows without missing values to ``out``, showing all to ``profiler``; the numbers of their groups."""
    given = options.given
    groups = None if options.group is None else _groups(source, options.group, dropna=options.dropna)
    kept: list[NDArray[np.int32]] = []
    start = 0
    for rows in _ahead(with_given(source, given, columns, classes.codes)):
        of_group = None if groups is None else groups[start : start + len(rows)]
        whole = None if of_group is None else of_group >= 0
        if given:
            known = complete(source, given, rows[:, : len(given)], start, dropna=options.dropna)
            whole = known if whole is None else whole & known
        start += len(rows)
        usable = profiler.add(rows[:, len(given) :] if given else rows, whole)
        out.append(rows if usable is None else rows[usable])
        if of_group is not None:
            kept.append(of_group if usable is None else of_group[usable])
    return None if groups is None else np.concatenate([np.empty(0, np.int32), *kept])


def _ahead(batches: Iterator[Float64]) -> Iterator[Float64]:
    """The same, the next one being read while one is worked on."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def _groups(source: TableFile, column: str, *, dropna: bool) -> NDArray[np.int32]:
    """The number of each row's value of this column, (N,), in the order of their first row; -1 where it is missing."""
    found = [np.empty(0, np.int32)]
    for numbers in numbered(source.labels(column), {}):
        found.append(numbers)
        if not dropna and (found[-1] < 0).any():
            row = sum(map(len, found[:-1])) + int(np.argmax(found[-1] < 0)) + 1
            raise DataError(
                f"{source.path}: column {column!r}, by which to split, has a missing value in row {row}",
                "fill it in, or leave its row out (--dropna)",
            )
    return np.concatenate(found)


def _settle(rows: _Rows, parts: NDArray[np.int8], given: Sequence[str], classes: Classes) -> tuple[GivenColumn, ...]:
    """The given columns with their labels, which ``rows`` then have as the codes of training.

    Raises:
        DataError: validation or test rows have a class that training rows do not have.
    """
    at = {i: name for i, name in enumerate(given) if name in classes.codes}
    found: dict[int, list[set[int]]] = {i: [set(), set()] for i in at}
    for chunk, part in rows.chunks(parts) if at else ():
        for i, (trained, others) in found.items():
            trained.update(np.unique(chunk[part == TRAIN, i]).astype(int).tolist())
            others.update(np.unique(chunk[part != TRAIN, i]).astype(int).tolist())
    labels: dict[int, tuple[str, ...]] = {}
    for i, (trained, others) in found.items():
        labels[i], rows.codes[i] = classes.settle(at[i], trained, others)
    return tuple(GivenColumn(name=name, labels=labels.get(i, ())) for i, name in enumerate(given))


def _scaled(given: tuple[GivenColumn, ...], location: Float64, scale: Float64) -> tuple[GivenColumn, ...]:
    """The given columns, numbers with the training rows' ``location`` and ``scale`` (G + D,)."""
    return tuple(
        column if column.labels else column.model_copy(update={"location": float(at), "scale": float(width)})
        for column, at, width in zip(given, location, scale, strict=False)
    )


def _write(
    place: Path, rows: _Rows, parts: NDArray[np.int8], location: Float64, scale: Float64
) -> dict[str, tuple[int, ...]]:
    """The splits standardised, in the order of the file; their shapes."""
    counts = np.bincount(parts, minlength=len(cache.SPLITS))
    shapes: dict[str, tuple[int, ...]] = {
        name: (int(n), len(location)) for name, n in zip(cache.SPLITS, counts, strict=True)
    }
    files = [(place / f"{name}.npy").open("wb") for name in cache.SPLITS]
    try:
        for file, shape in zip(files, shapes.values(), strict=True):
            header = {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
        for chunk, part in rows.chunks(parts):
            standard = ((chunk - location) / scale).astype(np.float32)
            for i, file in enumerate(files):
                file.write(standard[part == i].data)
    finally:
        for file in files:
            file.close()
    return shapes
