"""A table of any size to standardised float32 splits on disk, some megabytes at a time.

First the source is read once, into a temporary file of float64 rows, and its profile taken. When the number of rows is
known they are split; the training rows' mean and standard deviation are taken from that file, and it is written out
standardised, from float64: values far from zero beside their spread (times of day in seconds since 1970, say) would be
lost in float32.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from flowbench import console
from flowbench.data import cache
from flowbench.data.dataset import Float64
from flowbench.data.discrete import Category
from flowbench.data.given import GivenColumn
from flowbench.data.meta import Arrays, Meta
from flowbench.data.moments import Moments
from flowbench.data.preprocessing import bounds_in_words
from flowbench.data.proofs import ArrayWriter
from flowbench.data.tables.fitness import refuse_dependent, refuse_unfit, refuse_unscalable
from flowbench.data.tables.given import Classes
from flowbench.data.tables.kinds import Kinds, RowOf, between_bounds, compressed, kinds_of
from flowbench.data.tables.options import CATEGORY, TRAIN, Seeds, TableOptions
from flowbench.data.tables.profile import Profile, Profiler
from flowbench.data.tables.reading import read_into
from flowbench.data.tables.remarks import remarks
from flowbench.data.tables.repeated import repeated_rows
from flowbench.data.tables.sources import Sources
from flowbench.data.tables.spool import Parts, Spool
from flowbench.errors import DataError, UsageError
from flowbench.memory import refuse_short_of_memory
from flowbench.seeds import stream


def convert(
    source: Sources, columns: Sequence[str], options: TableOptions, seeds: Seeds, place: Path, fingerprint: str
) -> None:
    """Write the splits of these columns to the folder ``place``, as `cache.read` reads them, and what is said of them.

    Raises:
        DataError: the table is damaged, or no density can be learnt of it.
        OSError: ``place`` cannot be written.
    """
    path = source.label
    categories, numbers = _apart(source, columns, options)
    of_classes = [name for name in options.given if name in options.classes or source.is_text(name)] + categories
    first = len(options.given) + len(categories)
    _foresee(source, len(of_classes) + (options.group is not None))
    with tempfile.TemporaryFile(dir=place) as file:
        rows = Spool(file, place, first, len(numbers), stream(seeds.noise, "noise"), source.rows)
        classes = Classes(source, of_classes, missing=options.missing, modelled=categories)
        profiler = Profiler(numbers, missing_allowed=options.missing == "indicator")
        usable, groups = read_into(source, (*options.given, *categories), numbers, options, classes, profiler, rows)
        classes.refuse_no_classes(categories)
        profile = profiler.profile()
        said = profile.lines()
        say(source, said if profile.rows else [])
        kinds = _kinds(source, profile, options)
        parts = source.assign(usable, options, seeds, groups)
        said += _repeated(source, rows, parts, usable)
        kinds = between_bounds(path, profile, kinds, rows.numbers(parts))
        trained = ((chunk[:, first:], part == TRAIN) for chunk, part in rows.chunks(parts))
        rows.kinds = kinds = compressed(path, profile, kinds, trained, _row_of(source, numbers))
        given, labelled = _settle(rows, parts, options.given, categories, classes)
        moments, extremes = _moments(rows, parts, first, len(kinds.atoms), len(numbers))
        of_numbers = moments.of(slice(-len(numbers), None))
        refuse_unscalable(path, profile, kinds.widths, of_numbers, extremes, kinds.mass)
        scales = _scales(moments, given, len(numbers))
        given = _scaled(given, scales)
        arrays = _write(place, rows, parts, *scales, stream(seeds.noise, "absent"))
    discrete = kinds.discrete(labelled, of_numbers.mean, of_numbers.deviation)
    for line in _made(profile, kinds, labelled, given):
        said.append(line)
        console.note(line)
    steps = kinds.steps(of_numbers.mean, of_numbers.deviation)
    meta = Meta(
        fingerprint=fingerprint,
        arrays=arrays,
        columns=(*categories, *numbers),
        preprocessing=steps,
        given=given,
        discrete=discrete,
        tied=kinds.tied,
        remarks=remarks(profile, kinds, _option),
        about=tuple(said),
        source=str(source.path.absolute()),
    )
    meta.write(place)


def _foresee(source: Sources, numbers: int) -> None:
    """Refuse more rows than memory holds of their place in the order, their part, and so many numbers of classes."""
    if source.rows is not None:
        refuse_short_of_memory(source.label, source.rows * (8 + 1 + 4 * numbers), "give fewer rows")


def _kinds(source: Sources, profile: Profile, options: TableOptions) -> Kinds:
    """What the columns are, of a table of which a density can be learnt."""
    refuse_unfit(source.label, profile, options, source.locate if source.roles else None)
    kinds = kinds_of(source.path, profile, options)
    refuse_dependent(source.path, profile, kinds.widths > 0)
    return kinds


def _apart(source: Sources, columns: Sequence[str], options: TableOptions) -> tuple[list[str], list[str]]:
    """The columns that are categories, and those of numbers."""
    for name in columns:
        said = name in options.bounds or name in options.column_transforms
        if source.is_text(name) and (said or options.kind_of(name) not in (None, CATEGORY)):
            raise UsageError(
                f"column {name!r} of {source.label} is text: it is a category",
                "leave its kind, bounds and transform out",
            )
    categories = [name for name in columns if options.kind_of(name) == CATEGORY or source.is_text(name)]
    numbers = [name for name in columns if name not in categories]
    if not numbers:
        message = f"{source.label} has no column of numbers to model"
        raise DataError(message, "a flow is a density of numbers: give it one")
    return categories, numbers


def _moments(rows: Spool, parts: Parts, first: int, codes: int, dim: int) -> tuple[Moments, tuple[Float64, Float64]]:
    """The moments of the encoded training rows, and the least and greatest numbers (D,) of all rows."""
    moments, low, high = Moments(first + codes + dim), np.full(dim, np.inf), np.full(dim, -np.inf)
    for chunk, part in rows.encoded(parts):
        moments.add(chunk[part == TRAIN])
        low, high = np.fmin(low, np.fmin.reduce(chunk[:, -dim:])), np.fmax(high, np.fmax.reduce(chunk[:, -dim:]))
    return moments, (low, high)


def _scales(moments: Moments, given: Sequence[GivenColumn], dim: int) -> tuple[Float64, Float64]:
    """Location and scale of each column of encoded rows: codes stay as they are."""
    location, scale = moments.mean, np.where(moments.constant, 1.0, moments.deviation)
    codes = [i for i, column in enumerate(given) if column.labels]
    codes += range(len(given), len(location) - dim)
    location[codes], scale[codes] = 0.0, 1.0
    return location, scale


def _scaled(given: Sequence[GivenColumn], scales: tuple[Float64, Float64]) -> tuple[GivenColumn, ...]:
    """The given columns with the location and scale that rows have."""
    return tuple(
        column.model_copy(update={"location": float(at), "scale": float(width)})
        for column, at, width in zip(given, *scales, strict=False)
    )


def _made(
    profile: Profile, kinds: Kinds, categories: Sequence[Category], given: Sequence[GivenColumn]
) -> Iterator[str]:
    """In lines, what was made of columns."""
    names = profile.columns
    found = {
        "noise added": [f"{names[i]!r} [0, {kinds.widths[i]:g})" for i in kinds.noisy if not kinds.mass[i]],
        "mass": [f"{names[i]!r} (step {kinds.widths[i]:g})" for i in np.flatnonzero(kinds.mass)],
        "bounded": [f"{names[i]!r} {bounds_in_words(pair)}" for i, pair in kinds.bounds.items()],
        "compressed": [f"{names[i]!r} by {transform}" for i, transform in kinds.transforms.items()],
        "apart": [f"{names[atoms.column]!r} ({atoms})" for atoms in kinds.atoms],
        "categories": [f"{column.name!r} ({column.classes})" for column in categories],
        "ties allowed": [f"{name!r}: its likelihood can grow without bound" for name in kinds.tied],
        "given": [str(column) for column in given],
    }
    return (f"  {what:13}  {', '.join(columns)}" for what, columns in found.items() if columns)


def _option(column: str, transform: str) -> str:
    return f"--transform {shlex.quote(f'{column}={transform}')}"


def _row_of(source: Sources, names: Sequence[str]) -> RowOf:
    """Where a value is in a column of numbers, for a message: the table is read for it once more."""

    def row_of(place: int, value: float) -> tuple[Path, int]:
        before = 0
        for values in source.batches([names[place]]):
            found = np.flatnonzero(values[:, 0] == value)
            before += len(values)
            if found.size:
                return source.locate(before - len(values) + int(found[0]) + 1)
        raise DataError(f"{source.label} has changed while it was read", "start again")

    return row_of


def say(source: Sources, profile: Sequence[str]) -> None:
    """Print the lines of a table's profile under its name."""
    for i, line in enumerate(profile):
        console.note(line if i else f"{source.name}: {line}")


def _repeated(source: Sources, rows: Spool, parts: Parts, counts: Sequence[int]) -> list[str]:
    """A line, which is printed, for each file of which rows are training rows, too."""
    lines = []
    for table, part, count in zip(source.tables[1:], source.roles, counts[1:], strict=True):
        found, sought = repeated_rows(lambda: rows.chunks(parts), part, count)
        if found:
            lines.append(f"  repeated       {found:,} of {sought:,} rows of {table.path.name} are training rows, too")
            console.note(lines[-1])
    return lines


def _settle(
    rows: Spool, parts: Parts, given: Sequence[str], categories: Sequence[str], classes: Classes
) -> tuple[tuple[GivenColumn, ...], tuple[Category, ...]]:
    """The given columns and the categories with their labels; ``rows`` then have their places as codes.

    Raises:
        DataError: validation or test rows have a class of a given column that training rows do not have.
    """
    at = {i: name for i, name in enumerate((*given, *categories)) if name in classes.codes}
    found: dict[int, list[set[int]]] = {i: [set(), set()] for i in at}
    for chunk, part in rows.chunks(parts) if at else ():
        for i, (trained, others) in found.items():
            trained.update(np.unique(chunk[part == TRAIN, i]).astype(int).tolist())
            others.update(np.unique(chunk[part != TRAIN, i]).astype(int).tolist())
    labels: dict[int, tuple[str, ...]] = {}
    for i, (trained, others) in found.items():
        # a mass leaves something for a class that was never trained on, but nothing can be conditional on it
        known = (trained, others) if i < len(given) else (trained | others, set())
        labels[i], rows.codes[i] = classes.settle(at[i], *known)
    return (
        tuple(GivenColumn(name=name, labels=labels.get(i, ())) for i, name in enumerate(given)),
        tuple(Category(name=name, labels=labels[i]) for i, name in enumerate(categories, len(given))),
    )


def _write(place: Path, rows: Spool, parts: Parts, location: Float64, scale: Float64, seed: int) -> Arrays:
    """The splits standardised, in the order of the file, what is absent drawn from N(0, 1)."""
    noise = np.random.default_rng(seed)
    counts = np.bincount(parts, minlength=len(cache.SPLITS))
    with ExitStack() as files:
        writers = [
            ArrayWriter(files.enter_context((place / f"{name}.npy").open("xb")), "<f4", (int(n), len(location)))
            for name, n in zip(cache.SPLITS, counts, strict=True)
        ]
        for chunk, part in rows.encoded(parts):
            standard = ((chunk - location) / scale).astype(np.float32)
            absent = np.isnan(standard)
            if absent.any():
                standard[absent] = noise.standard_normal(int(absent.sum()))
            for i, writer in enumerate(writers):
                writer.write(standard[part == i])
    return Arrays(**{name: writer.proof for name, writer in zip(cache.SPLITS, writers, strict=True)})
