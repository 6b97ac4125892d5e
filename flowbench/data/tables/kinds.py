"""What each column of numbers is: continuous, bounded, steps that get noise, or numbers with atoms among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowbench.data.dataset import Float64
from flowbench.data.discrete import Atoms, Category, Discrete, none_if_empty
from flowbench.data.preprocessing import Bounded, Compress, Dequantise, Standardise, Step, asinh, bounds_in_words
from flowbench.data.tables.fitness import refuse_ties, refuse_without_atoms
from flowbench.data.tables.options import ASINH, CONTINUOUS, LOG, MIXED, WHOLE, TableOptions
from flowbench.data.tables.profile import Profile, Sample
from flowbench.data.tables.tails import merged_share, middle
from flowbench.errors import DataError

FINEST_MARGIN = 1e-6
"""Of a step, that noise may come near to a bound."""


@dataclass(frozen=True, eq=False)
class Kinds:
    """How D columns of numbers are brought to where a flow learns them, but for location and scale.

    ``widths`` (D,) are those of uniform noise, 0 for a column that gets none, ``low`` (D,) the columns' least values;
    ``atoms`` are values apart, ``bounds`` the columns' (lower, upper) by their places; ``tied`` names the columns of
    which a density is learnt though ties have none. Where ``mass`` (D,) is true, the widths are those of steps that
    have a probability, and noise is none: numbers are put to the middle of their step. ``transforms`` are
    names of what brings in tails, by places, and ``compress`` is what does it, as soon as it is known; ``merged`` are
    then the shares of values that asinh leaves too near to each other for float32.
    """

    widths: Float64
    low: Float64
    mass: NDArray[np.bool_]
    atoms: tuple[Atoms, ...] = ()
    bounds: Mapping[int, tuple[float | None, float | None]] = field(default_factory=dict)
    tied: tuple[str, ...] = ()
    margin: Float64 | None = None
    transforms: Mapping[int, str] = field(default_factory=dict)
    compress: Compress | None = None
    merged: Mapping[int, float] = field(default_factory=dict)

    @property
    def noisy(self) -> NDArray[np.int64]:
        """The places of the columns that get noise."""
        return np.flatnonzero(self.widths)

    def encoded(self, numbers: Float64, uniform: Float64) -> Float64:
        """Codes and numbers (n, A + D) of numbers (n, D), NaN where none is there; ``uniform`` (n, k) is the noise.

        What lies outside of its bounds is taken at them.
        """
        codes, there = self.apart(numbers)
        noisy, bounded = self.noisy, self._bounded()
        if noisy.size:
            there = there.copy()
            there[:, noisy] += np.where(self.mass[noisy], 0.5, uniform) * self.widths[noisy]
        there = bounded.unbounded(there) if bounded else there
        there = self.compress.compressed(there) if self.compress else there
        return np.concatenate([codes, there], axis=1) if self.atoms else there

    def apart(self, numbers: Float64) -> tuple[Float64, Float64]:
        """The codes (n, A) of numbers (n, D), and these, NaN where an atom is."""
        discrete = Discrete(atoms=self.atoms)
        codes = discrete.codes(numbers)
        return codes, np.where(discrete.absent(codes, numbers.shape[1]), np.nan, numbers) if self.atoms else numbers

    def kept_apart(self, nearest: Float64) -> Kinds:
        """The same, numbers on a bound taken at half the distance of the nearest of the others (D,)."""
        margin = np.where(np.isfinite(nearest), nearest / 2, 0.0)
        margin = np.where(self.widths > 0, FINEST_MARGIN * self.widths, margin)
        for place, (low, high) in self.bounds.items():
            if low is not None and high is not None:
                margin[place] = min(margin[place] or np.inf, (high - low) / 4)
            margin[place] = margin[place] or 1.0  # all lie on the bound: refused as constant
        return replace(self, margin=margin)

    def steps(self, location: Float64, scale: Float64) -> tuple[Step, ...]:
        """The preprocessing that leads from raw numbers to standardised ones."""
        noise = (Dequantise.of(self.widths, self.low),) if self.noisy.size else ()
        bounded = self._bounded()
        maps = [step for step in (bounded, self.compress) if step is not None]
        return (*noise, *maps, Standardise.of(location, scale))

    def discrete(self, categories: Sequence[Category], location: Float64, scale: Float64) -> Discrete | None:
        """What of rows is discrete where a column's numbers have this ``location`` and ``scale``."""
        steps, origins = self.widths / scale, (self.low + self.widths / 2 - location) / scale
        return none_if_empty(categories, self.atoms, *(np.where(self.mass, x, 0.0).tolist() for x in (steps, origins)))

    def _bounded(self) -> Bounded | None:
        """The map of bounds; noise comes before it, and reaches a step beyond the upper one."""
        if not self.bounds:
            return None
        dim = len(self.widths)
        lower, upper = ([self.bounds.get(i, (None, None))[side] for i in range(dim)] for side in (0, 1))
        beyond = tuple(None if h is None else h + float(self.widths[i]) for i, h in enumerate(upper))
        margin = np.zeros(dim) if self.margin is None else self.margin
        return Bounded(lower=tuple(lower), upper=beyond, margin=tuple(margin.tolist()))


def kinds_of(path: Path | str, profile: Profile, options: TableOptions, lenient: bool = False) -> Kinds:
    """The kinds of a table's columns: as ``options`` say, and else as its ``profile`` has found them.

    ``lenient``: columns with a step are learnt as they are where nothing is said of them.

    Raises:
        DataError: a column has no density as it is, and nothing says what to do; or it is not of the kind that it is
            said to be.
    """
    dim = len(profile.columns)
    asked = [options.kind_of(name) for name in profile.columns]
    stepped = ~np.isnan(profile.step)
    chosen = np.array([kind or "" for kind in asked])
    named = np.array([name in options.allow_ties for name in profile.columns], np.bool_)
    found = options.found & (chosen == "") & profile.discrete & ~named
    apart = np.array([bool(atoms) for atoms in profile.atoms]) & ~profile.whole & ~profile.rest_heavy
    chosen = np.where(found & apart, MIXED, np.where(found & stepped, WHOLE, chosen))
    noise = options.dequantise or options.mass
    chosen = np.where((chosen == "") & profile.discrete & noise & stepped & ~named, WHOLE, chosen)
    ties = profile.discrete & (chosen == "")
    refuse_ties(path, profile, ties & ~_allowed(profile, options) & ~(lenient & stepped))
    mixed, whole = chosen == MIXED, chosen == WHOLE
    refuse_without_atoms(path, profile, mixed & ~np.array([bool(atoms) for atoms in profile.atoms]))
    rest = mixed & (profile.rest_heavy | profile.whole)
    refuse_ties(path, profile, (whole | (rest & ~_allowed(profile, options))) & ~stepped)
    missing = profile.missing > 0
    values = [
        (*(profile.atoms[i] if mixed[i] else ()), *((None,) if missing[i] and options.missing == "indicator" else ()))
        for i in range(dim)
    ]
    mass = options.mass & whole & stepped & np.array([not each for each in values])
    if options.mass:
        _refuse_idle_mass(path, profile, options, mass)
    return Kinds(
        mass=mass,
        widths=np.where((whole | rest) & stepped, profile.step, 0.0),
        low=profile.low,
        atoms=tuple(Atoms(column=i, values=each) for i, each in enumerate(values) if each),
        bounds={i: options.bounds[name] for i, name in enumerate(profile.columns) if name in options.bounds},
        transforms=_transforms(profile, options, mass),
        tied=tuple(
            name
            for i, name in enumerate(profile.columns)
            if profile.discrete[i] and (chosen[i] == CONTINUOUS or ties[i] or (rest[i] and not stepped[i]))
        ),
    )


def _transforms(profile: Profile, options: TableOptions, mass: NDArray[np.bool_]) -> dict[int, str]:
    """What brings in the tails of columns, by place: as the options say, or as is found where they ask for it."""
    transforms = {i: options.column_transforms.get(name) for i, name in enumerate(profile.columns)}
    if options.tails_found:
        said = {*options.column_transforms, *options.bounds}
        unsaid = (i for i, name in enumerate(profile.columns) if name not in said and not mass[i])
        transforms |= {i: profile.tails[i].transform for i in unsaid}
    return {i: transform for i, transform in transforms.items() if transform}


def _refuse_idle_mass(path: Path | str, profile: Profile, options: TableOptions, mass: NDArray[np.bool_]) -> None:
    """Raise DataError where no column has the ``mass`` (D,) that is asked for, or one with bounds or a transform."""
    if not mass.any():
        raise DataError(
            f"{path} has no column whose values come in steps, all of them, and none is missing",
            "leave --likelihood mass out: where values are apart or missing, the others get noise (--dequantise)",
        )
    for what, bends, named in (
        ("bounds", "a map of bounds", options.bounds),
        ("transform", "a transform", options.column_transforms),
    ):
        bent = [name for name, has in zip(profile.columns, mass, strict=True) if has and name in named]
        if bent:
            raise DataError(
                f"{path}: column {bent[0]!r} has a probability mass, whose steps {bends} would make unequal",
                f"leave its {what} out, or --likelihood mass",
            )


def _allowed(profile: Profile, options: TableOptions) -> NDArray[np.bool_]:
    """The columns (D,) of which a density is learnt, ties or not."""
    return np.array([options.allows_ties(name) for name in profile.columns], np.bool_)


def between_bounds(path: Path | str, profile: Profile, kinds: Kinds, chunks: Iterable[Float64]) -> Kinds:
    """The kinds with the margins of bounds, by all numbers, some (n, D) at a time.

    Raises:
        DataError: one lies outside.
    """
    if not kinds.bounds:
        return kinds
    outside, nearest = np.zeros(len(kinds.widths), np.int64), np.full(len(kinds.widths), np.inf)
    for numbers in chunks:
        _, there = kinds.apart(numbers)
        for place, (low, high) in kinds.bounds.items():
            column = there[:, place]
            for inside in ([] if low is None else [column - low]) + ([] if high is None else [high - column]):
                outside[place] += np.count_nonzero(inside < 0)
                nearest[place] = min(nearest[place], inside[inside > 0].min(initial=np.inf))
    for at in np.flatnonzero(outside):
        bounds = bounds_in_words(kinds.bounds[int(at)])
        raise DataError(
            f"{path}: column {profile.columns[at]!r} has {outside[at]:,} values outside of its bounds {bounds}, "
            f"from {profile.low[at]:g} to {profile.high[at]:g} in all",
            "give wider bounds, or --kind COLUMN=mixed if they are single values with a meaning of their own",
        )
    return kinds.kept_apart(nearest)


Numbers = Iterable[tuple[Float64, NDArray[np.bool_]]]
"""All numbers (n, D) some at a time, and which of these rows (n,) are trained on."""

RowOf = Callable[[int, float], tuple[Path | str, int]]
"""The file and the row there in which the column at this place has this value."""


def compressed(path: Path | str, profile: Profile, kinds: Kinds, numbers: Numbers, row_of: RowOf) -> Kinds:
    """The kinds with what their ``transforms`` do: of asinh by location and scale of the training rows.

    Raises:
        DataError: a number has no logarithm.
    """
    if not kinds.transforms:
        return kinds
    at = {name: [i for i, own in kinds.transforms.items() if own == name] for name in (LOG, ASINH)}
    sample, dim = Sample(len(at[ASINH])), len(kinds.widths)
    for chunk, trained in numbers:
        _, there = kinds.apart(chunk)
        for place in at[LOG]:
            _refuse_without_log(profile.columns[place], there[:, place], kinds.widths[place], partial(row_of, place))
        sample.add((there + kinds.widths / 2)[trained][:, at[ASINH]])
    location, scale, merged = np.zeros(dim), np.ones(dim), {}
    for place, values in zip(at[ASINH], sample.rows().T, strict=True):
        there = np.sort(values[~np.isnan(values)])
        if there.size:  # or it is refused as constant
            location[place], scale[place] = middle(there)
            merged[place] = merged_share(asinh(there, location[place], scale[place]))
    by = tuple(kinds.transforms.get(i) for i in range(dim))
    found = Compress.model_validate({"by": by, "location": location.tolist(), "scale": scale.tolist()})
    return replace(kinds, compress=found, merged=merged)


def _refuse_without_log(
    name: str, values: Float64, width: float, row_of: Callable[[float], tuple[Path | str, int]]
) -> None:
    """Raise DataError where one of the values (n,) of a column is not above 0, all of its step of this width."""
    without = values[(values < 0) | (values + width <= 0)]
    if without.size:
        file, row = row_of(float(without[0]))
        raise DataError(
            f"{file}: column {name!r} has {without[0]:g} in row {row}: there is no logarithm of it",
            "--transform COLUMN=asinh takes all numbers; or --kind COLUMN=mixed, if it is one with a meaning of its "
            "own that many rows have",
        )
