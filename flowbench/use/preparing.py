"""Rows in memory to where a flow learns them, as `flowbench.data.tables.convert` does it with a table of any size."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowbench.data.dataset import Float64
from flowbench.data.discrete import Category, Discrete
from flowbench.data.given import GivenColumn, standardised
from flowbench.data.moments import Moments
from flowbench.data.preprocessing import Preprocessing
from flowbench.data.tables.fitness import refuse_dependent, refuse_unfit, refuse_unscalable
from flowbench.data.tables.given import MISSING
from flowbench.data.tables.kinds import between_bounds, compressed, kinds_of
from flowbench.data.tables.options import TableOptions
from flowbench.data.tables.profile import Profiler
from flowbench.data.tables.remarks import remarks
from flowbench.errors import DataError

NAME = Path("X")
"""What the rows are called in messages, as scikit-learn's are."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """Rows (N, G + C + D) as a flow sees them, and what led to them."""

    rows: Float64
    given: tuple[GivenColumn, ...]
    discrete: Discrete | None
    preprocessing: Preprocessing


def prepare(
    names: Sequence[str],
    rows: Float64,
    given: int,
    categories: Sequence[Category],
    options: TableOptions,
    kept: NDArray[np.int64],
    random: np.random.RandomState,
) -> Prepared:
    """Prepare rows (N, G + K + D): so many columns that are ``given``, the codes of ``categories``, and numbers.

    Location and scale are those of the rows that are ``kept``; ``random`` draws the noise.

    A column that has a step but no noise is learnt as it is, with a UserWarning; so is what else is remarked on.

    Raises:
        DataError: they have no density; the message names the column.
    """
    first = given + len(categories)
    values, codes, numbers = np.split(rows, [given, first], axis=1)
    profiler = Profiler(names[first:], missing_allowed=options.missing == "indicator")
    profiler.add(numbers)
    profile = profiler.profile()
    refuse_unfit(NAME, profile, options)
    try:
        kinds = kinds_of(NAME, profile, options)
    except DataError as refused:
        kinds = kinds_of(NAME, profile, options, lenient=True)
        hint = "dequantise=True adds uniform noise as wide as a column's step"
        warnings.warn(f"{refused}: {hint}", stacklevel=3)
    refuse_dependent(NAME, profile, kinds.widths > 0)
    kinds = between_bounds(NAME, profile, kinds, [numbers])
    trained = np.isin(np.arange(len(rows)), kept)

    def row_of(place: int, value: float) -> tuple[Path, int]:
        return NAME, int(np.flatnonzero(numbers[:, place] == value)[0]) + 1

    kinds = compressed(NAME, profile, kinds, [(numbers, trained)], row_of)
    for remark in remarks(profile, kinds, lambda name, transform: f"column_transforms={{{name!r}: {transform!r}}}"):
        warnings.warn(remark, stacklevel=3)
    encoded = kinds.encoded(numbers, random.random_sample((len(rows), kinds.noisy.size)))
    there, dim = encoded[:, len(kinds.atoms) :], numbers.shape[1]
    moments = Moments(dim)
    moments.add(there[kept])
    refuse_unscalable(NAME, profile, kinds.widths, moments, (np.fmin.reduce(there), np.fmax.reduce(there)), kinds.mass)
    own = (there - moments.mean) / moments.deviation
    absent = np.isnan(own)
    if absent.any():
        own[absent] = random.standard_normal(int(absent.sum()))
    conditions = given_columns(names[:given], values[kept])
    parts = [standardised(conditions, values), codes, encoded[:, : len(kinds.atoms)], own]
    steps = kinds.steps(moments.mean, moments.deviation)
    discrete = kinds.discrete(categories, moments.mean, moments.deviation)
    return Prepared(np.concatenate(parts, axis=1), conditions, discrete, steps)


def given_columns(names: Sequence[str], rows: Float64) -> tuple[GivenColumn, ...]:
    """Given numbers, standardised by these rows (n, G); one that does not vary is only moved."""
    pairs = zip(names, rows.mean(axis=0), rows.std(axis=0), strict=True)
    return tuple(GivenColumn(name=name, location=float(at), scale=float(scale) or 1.0) for name, at, scale in pairs)


def categories_of(names: Sequence[str], rows: Float64, missing: str) -> tuple[Category, ...]:
    """Columns of numbers that are classes, (N, K), with the values that they have; NaN is one where that is kept.

    Raises:
        DataError: a value is missing, and that is no class.
    """
    found = []
    for name, column in zip(names, rows.T, strict=True):
        lacking = np.isnan(column)
        if lacking.any() and missing != "indicator":
            row = int(lacking.argmax()) + 1
            raise DataError(f"{NAME}: column {name!r} has a missing value in row {row}", "fill it in")
        labels = [f"{value:.17g}" for value in np.unique(column[~lacking])]
        found.append(Category(name=name, labels=(*([MISSING] if lacking.any() else []), *labels)))
    return tuple(found)


def coded(categories: Sequence[Category], rows: Float64) -> Float64:
    """The codes (N, K) of these values of the categories.

    Raises:
        ValueError: a value is none of a category's.
    """
    codes = np.empty_like(rows)
    for place, (category, column) in enumerate(zip(categories, rows.T, strict=True)):
        known = values_of(category)
        match = (column[:, None] == known) | (np.isnan(column)[:, None] & np.isnan(known))
        if not match.any(axis=1).all():
            row = int((~match.any(axis=1)).argmax())
            raise ValueError(
                f"column {category.name!r} has a class in row {row} that was not there to fit: {column[row]:g}"
            )
        codes[:, place] = match.argmax(axis=1)
    return codes


def values_of(category: Category) -> Float64:
    """The values of a category's codes."""
    return np.array([np.nan if label == MISSING else float(label) for label in category.labels])
