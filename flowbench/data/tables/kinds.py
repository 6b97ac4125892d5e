"""What each column of numbers is: continuous, bounded, steps that get noise, or numbers with atoms among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowbench.data.dataset import Float64
from flowbench.data.discrete import Atoms, Category, Discrete, none_if_empty
from flowbench.data.preprocessing import Bounded, Dequantise, Standardise, Step
from flowbench.data.tables.fitness import refuse_ties, refuse_without_atoms
from flowbench.data.tables.options import CONTINUOUS, MIXED, WHOLE, TableOptions
from flowbench.data.tables.profile import Profile
from flowbench.errors import DataError

FINEST_MARGIN = 1e-6
"""Of a step, that noise may come near to a bound."""


@dataclass(frozen=True, eq=False)
class Kinds:
    """How D columns of numbers are brought to where a flow learns them, but for location and scale.

    ``widths`` (D,) are those of uniform noise, 0 for a column that gets none, ``low`` (D,) the columns' least values;
    ``atoms`` are values apart, ``bounds`` the columns' (lower, upper) by their places; ``tied`` names the columns of
    which a density is learnt though ties have none. Where ``mass`` (D,) is true, the widths are those of steps that
    have a probability, and noise is none: numbers are put to the middle of their step.
    """

    widths: Float64
    low: Float64
    atoms: tuple[Atoms, ...] = ()
    bounds: Mapping[int, tuple[float | None, float | None]] = field(default_factory=dict)
    tied: tuple[str, ...] = ()
    margin: Float64 | None = None
    mass: NDArray[np.bool_] | None = None

    @property
    def noisy(self) -> NDArray[np.int64]:
        """The places of the columns that get noise."""
        return np.flatnonzero(self.widths)

    def encoded(self, numbers: Float64, uniform: Float64 | None = None) -> Float64:
        """Codes and numbers (n, A + D) of numbers (n, D), NaN where none is there; ``uniform`` (n, k) is the noise.

        What lies outside of its bounds is taken at them.
        """
        found, there, noisy = Discrete(atoms=self.atoms).codes(numbers), self.there(numbers), self.noisy
        if noisy.size and uniform is not None:
            there = there.copy()
            places = uniform if self.mass is None else np.where(self.mass[noisy], 0.5, uniform)
            there[:, noisy] += places * self.widths[noisy]
        bounded = self._bounded()
        there = bounded.unbounded(there) if bounded else there
        return np.concatenate([found, there], axis=1) if self.atoms else there

    def outside(self, numbers: Float64) -> NDArray[np.bool_]:
        """Which of numbers (n, D) lie outside of their bounds."""
        found = np.zeros(numbers.shape, np.bool_)
        there = self.there(numbers)
        for place, (low, high) in self.bounds.items():
            found[:, place] = (there[:, place] < (-np.inf if low is None else low)) | (
                there[:, place] > (np.inf if high is None else high)
            )
        return found

    def there(self, numbers: Float64) -> Float64:
        """The numbers (n, D), NaN where an atom is."""
        codes = Discrete(atoms=self.atoms)
        return (
            np.where(codes.absent(codes.codes(numbers), numbers.shape[1]), np.nan, numbers) if self.atoms else numbers
        )

    def nearest(self, numbers: Float64) -> Float64:
        """The least distance (D,) above 0 of numbers (n, D) from a bound; infinite where there is none."""
        found, there = np.full(numbers.shape[1], np.inf), self.there(numbers)
        for place, pair in self.bounds.items():
            for bound in pair:
                away = np.abs(there[:, place] - bound) if bound is not None else np.empty(0)
                found[place] = min(found[place], away[away > 0].min(initial=np.inf))
        return found

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
        return (*noise, *((bounded,) if bounded else ()), Standardise.of(location, scale))

    def discrete(self, categories: Sequence[Category], location: Float64, scale: Float64) -> Discrete | None:
        """What of rows is discrete where a column's numbers have this ``location`` and ``scale``."""
        mass = np.zeros(len(self.widths), np.bool_) if self.mass is None else self.mass
        steps, origins = np.where(mass, self.widths / scale, 0.0), (self.low + self.widths / 2 - location) / scale
        return none_if_empty(categories, self.atoms, steps.tolist(), np.where(mass, origins, 0.0).tolist())

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
    found = options.found & (chosen == "") & profile.discrete
    apart = np.array([bool(atoms) for atoms in profile.atoms]) & ~profile.whole & ~profile.rest_heavy
    chosen = np.where(found & apart, MIXED, np.where(found & stepped, WHOLE, chosen))
    noise = options.dequantise or options.mass
    chosen = np.where((chosen == "") & profile.discrete & noise & stepped, WHOLE, chosen)
    ties = profile.discrete & (chosen == "")
    refuse_ties(path, profile, ties & ~_allowed(profile, options) & ~(lenient & stepped), options)
    mixed, whole = chosen == MIXED, chosen == WHOLE
    refuse_without_atoms(path, profile, mixed & ~np.array([bool(atoms) for atoms in profile.atoms]))
    rest = mixed & (profile.rest_heavy | profile.whole)
    refuse_ties(path, profile, (whole | (rest & ~_allowed(profile, options))) & ~stepped, options)
    missing = profile.missing > 0
    values = [
        (*(profile.atoms[i] if mixed[i] else ()), *((None,) if missing[i] and options.missing == "indicator" else ()))
        for i in range(dim)
    ]
    mass = whole & stepped & np.array([not each for each in values]) if options.mass else None
    _refuse_idle_mass(path, profile, options, mass)
    return Kinds(
        mass=mass,
        widths=np.where((whole | rest) & stepped, profile.step, 0.0),
        low=profile.low,
        atoms=tuple(Atoms(column=i, values=each) for i, each in enumerate(values) if each),
        bounds={i: options.bounds[name] for i, name in enumerate(profile.columns) if name in options.bounds},
        tied=tuple(
            name
            for i, name in enumerate(profile.columns)
            if profile.discrete[i] and (chosen[i] == CONTINUOUS or ties[i])
        ),
    )


def _refuse_idle_mass(
    path: Path | str, profile: Profile, options: TableOptions, mass: NDArray[np.bool_] | None
) -> None:
    """Raise DataError where a mass is asked for and no column has one, or one with bounds."""
    if mass is None:
        return
    if not mass.any():
        raise DataError(f"{path} has no column whose values come in steps", "leave --likelihood mass out")
    bounded = [name for name, has in zip(profile.columns, mass, strict=True) if has and name in options.bounds]
    if bounded:
        raise DataError(
            f"{path}: column {bounded[0]!r} has a probability mass, whose steps a map of bounds would make unequal",
            "leave its bounds out, or --likelihood mass",
        )


def _allowed(profile: Profile, options: TableOptions) -> NDArray[np.bool_]:
    """The columns (D,) of which a density is learnt, ties or not."""
    return np.array([options.allows_ties(name) for name in profile.columns], np.bool_)


def refuse_outside(path: Path | str, profile: Profile, kinds: Kinds, outside: NDArray[np.int64]) -> None:
    """Raise DataError where so many values (D,) lie outside of their bounds."""
    for place in np.flatnonzero(outside):
        bounds = bounds_in_words(kinds.bounds[int(place)])
        raise DataError(
            f"{path}: column {profile.columns[place]!r} has {outside[place]:,} values outside of its bounds {bounds}, "
            f"from {profile.low[place]:g} to {profile.high[place]:g} in all",
            "give wider bounds, or --kind COLUMN=mixed if they are single values with a meaning of their own",
        )


def bounds_in_words(pair: tuple[float | None, float | None]) -> str:
    """As the option has them: low:high, or one of them."""
    return ":".join("" if bound is None else f"{bound:g}" for bound in pair)
