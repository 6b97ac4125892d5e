"""What a table is like, taken in one pass over it: what is missing, constant, duplicated, or not continuous."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowbench.console import plural
from flowbench.data.dataset import Float64
from flowbench.data.tables.dependence import Dependence, dependences, twins
from flowbench.data.tables.steps import Steps
from flowbench.data.tables.tails import Tail, tail_of

SAMPLE_ROWS, SAMPLE_VALUES = 100_000, 1 << 23
"""Ties and correlations are looked for in so many rows at the least, evenly spaced, as far as they hold so many values;
in all rows of a table that has no more."""

HEAVIEST, TIED, FEWEST = 0.01, 0.1, 5
"""Ties are heavy where one value is in more than this share of the rows, or more than this share of the rows have a
value that another row has, and they are at least so many rows. Of continuous columns in float32 100,000 rows have a
share of about 0.005 in ties."""

MOST_ATOMS = 8
"""Values of a column that may stand apart from all others; of a column with more, none does."""

_NAMED = 10  # columns a line


@dataclass(frozen=True, eq=False)
class Profile:
    """A table's rows and columns (D,).

    ``missing`` and ``infinite`` count values; ``first_missing`` and ``first_infinite`` are the first one's row, from 1.
    ``incomplete`` of all ``seen`` rows have missing values, or no group to be split by. All else is of the ``rows``
    rows that have all values, and finite ones. ``step`` is the greatest number of which all differences within a
    column are multiples, NaN where there is none but floating point's own; ``whole``, whether all are whole numbers;
    ``twin``, an earlier column from which it follows, or -1, with their ``correlation``. In the sample, ``heaviest``
    is the share of rows that the most common value, ``common``, has; ``tied``, of those whose value another row has;
    ``heavy``, whether these ties are heavy; ``atoms``, the values that by themselves are in a share of the rows that is
    heavy, none where there are more than a few; ``rest_heavy``, whether the ties of all others are heavy; ``tails``,
    what is known of each column's; ``dependences``, the columns that are linear combinations of others, or nearly.
    """

    columns: tuple[str, ...]
    seen: int
    rows: int
    incomplete: int
    missing: NDArray[np.int64]
    first_missing: NDArray[np.int64]
    infinite: NDArray[np.int64]
    first_infinite: NDArray[np.int64]
    low: Float64
    high: Float64
    step: Float64
    whole: NDArray[np.bool_]
    twin: NDArray[np.int64]
    correlation: Float64
    common: Float64
    heaviest: Float64
    tied: Float64
    heavy: NDArray[np.bool_]
    atoms: tuple[tuple[float, ...], ...]
    rest_heavy: NDArray[np.bool_]
    tails: tuple[Tail, ...]
    dependences: tuple[Dependence, ...]

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Columns of one value."""
        return self.low == self.high

    @property
    def discrete(self) -> NDArray[np.bool_]:
        """Columns that have no density: of whole numbers, or with heavy ties."""
        return (self.whole | self.heavy) & ~self.constant

    def lines(self) -> list[str]:
        """It in words; the table's name goes before the first."""
        lines = [f"{plural(self.rows, 'row')} of {plural(len(self.columns), 'column')}"]
        if self.incomplete:
            lines[0] += f", and {self.incomplete:,} more with missing values"
        facts = {
            **({"infinite": self._each(self.infinite > 0, self._infinite)} if self.infinite.any() else {}),
            "missing": self._each(self.missing > 0, lambda i: f"({self.missing[i]:,})"),
            "constant": self._each(self.constant, lambda i: f"({self.low[i]:g})"),
            "duplicated": self._each(
                self.twin >= 0,
                lambda i: f"(as {self.columns[self.twin[i]]!r}, correlation {self.correlation[i]:.6f})",
            ),
            "whole numbers": self._each(self.whole & ~self.constant, lambda i: f"(step {self.step[i]:g})"),
            "heavy ties": self._each(
                self.heavy & ~self.constant,
                lambda i: f"({self.common[i]:g} in {self.heaviest[i]:.1%} of rows; {self.tied[i]:.0%} share a value)",
            ),
        }
        if any(tail.transform for tail in self.tails):
            heavy_tailed = np.array([tail.transform is not None for tail in self.tails], np.bool_)
            facts["heavy tails"] = self._each(heavy_tailed, lambda i: f"({self.tails[i].transform} may help)")
        return lines + [f"  {what:13}  {columns or 'none'}" for what, columns in facts.items()]

    def _infinite(self, column: int) -> str:
        return f"({self.infinite[column]:,}, the first in row {self.first_infinite[column]:,})"

    def _each(self, which: NDArray[np.bool_], say: Callable[[int], str]) -> str:
        found = np.flatnonzero(which)
        text = ", ".join(f"{self.columns[i]!r} {say(i)}" for i in found[:_NAMED])
        return text + (f", and {len(found) - _NAMED:,} more" if len(found) > _NAMED else "")


class Profiler:
    """Takes a table's rows in order, and gives its `Profile` at the end."""

    def __init__(self, columns: Sequence[str], missing_allowed: bool = False) -> None:
        dim = len(columns)
        self._columns, self._missing_allowed = tuple(columns), missing_allowed
        self._seen = self._rows = self._incomplete = 0
        self._missing, self._infinite = _Count(dim), _Count(dim)
        self._low, self._high = np.full(dim, np.inf), np.full(dim, -np.inf)
        self._steps = Steps(dim)
        self._sample = Sample(dim)

    def add(
        self, rows: Float64, grouped: NDArray[np.bool_] | None = None, *, held_out: bool = False
    ) -> NDArray[np.bool_] | None:
        """Take rows (n, D); return which (n,) have all their values and a group, None where all have.

        Ties and twins are not looked for among rows that are ``held_out``: it is on what is trained on that a density
        grows without bound.
        """
        self._seen += len(rows)
        usable = None
        finite = np.isfinite(rows)
        if not finite.all() or not (grouped is None or grouped.all()):
            missing = np.isnan(rows)
            self._missing.add(missing, self._seen - len(rows))
            self._infinite.add(~finite & ~missing, self._seen - len(rows))
            lacking = missing.any(axis=1) & (not self._missing_allowed)
            lacking = lacking if grouped is None else lacking | ~grouped
            self._incomplete += int(lacking.sum())
            usable = np.asarray((finite | missing).all(axis=1) & ~lacking)
            rows = rows[usable]
        self._rows += len(rows)
        if len(rows):
            np.fmin(self._low, np.fmin.reduce(rows), out=self._low)
            np.fmax(self._high, np.fmax.reduce(rows), out=self._high)
            self._steps.add(rows)
            if not held_out:
                self._sample.add(rows)
        return usable

    def profile(self) -> Profile:
        """Of all rows so far."""
        sample = self._sample.rows()
        ties = [_ties(column[~np.isnan(column)]) for column in sample.T]
        for column, found in zip(sample.T, ties, strict=True):
            # two columns with one mark for what is missing do not follow from each other
            column[np.isin(column, found.atoms) & (not found.rest_heavy)] = np.nan
        twin, correlation = twins(sample)
        step = self._steps.steps(np.maximum(np.abs(self._low), np.abs(self._high)))
        return Profile(
            columns=self._columns,
            seen=self._seen,
            rows=self._rows,
            incomplete=self._incomplete,
            missing=self._missing.counts,
            first_missing=self._missing.first,
            infinite=self._infinite.counts,
            first_infinite=self._infinite.first,
            low=self._low,
            high=self._high,
            step=step,
            whole=self._steps.whole,
            twin=twin,
            correlation=correlation,
            common=np.array([each.common for each in ties]),
            heaviest=np.array([each.heaviest for each in ties]),
            tied=np.array([each.tied for each in ties]),
            heavy=np.array([each.heavy for each in ties], np.bool_),
            atoms=tuple(each.atoms for each in ties),
            rest_heavy=np.array([each.rest_heavy for each in ties], np.bool_),
            tails=tuple(map(_tail, sample.T, step, self._low, ties)),
            dependences=dependences(sample),
        )


class _Count:
    """How often something is so in each column, and the first row, from 1, in which it is."""

    def __init__(self, dim: int) -> None:
        self.counts = np.zeros(dim, np.int64)
        self.first = np.zeros(dim, np.int64)

    def add(self, which: NDArray[np.bool_], before: int) -> None:
        counts = which.sum(axis=0)
        fresh = (counts > 0) & (self.counts == 0)
        self.first[fresh] = before + which.argmax(axis=0)[fresh] + 1
        self.counts += counts


class Sample:
    """Every 2^k-th row, with k as great as need be: rows evenly spaced, whatever their number will be."""

    def __init__(self, dim: int) -> None:
        self._most = 2 * min(SAMPLE_ROWS, max(1000, SAMPLE_VALUES // max(1, dim)))
        self._kept: list[Float64] = [np.empty((0, dim))]
        self._stride, self._next = 1, 0

    def add(self, rows: Float64) -> None:
        """Take rows (n, D), in their order."""
        taken = rows[self._next :: self._stride].copy()
        self._next += len(taken) * self._stride - len(rows)
        self._kept.append(taken)
        while sum(map(len, self._kept)) > self._most:
            kept = self.rows()
            # the next row taken must be one of those that the longer stride takes
            self._next += self._stride if len(kept) % 2 else 0
            self._stride *= 2
            self._kept = [kept[::2].copy()]

    def rows(self) -> Float64:
        """Those that are kept, (k, D)."""
        return np.concatenate(self._kept)


class _Ties(NamedTuple):
    """Of one column's values: see `Profile`."""

    common: float = 0.0
    heaviest: float = 0.0
    tied: float = 0.0
    heavy: bool = False
    atoms: tuple[float, ...] = ()
    rest_heavy: bool = False


def _ties(column: Float64) -> _Ties:
    if not len(column):
        return _Ties()
    values, counts = np.unique(column, return_counts=True)
    apart = (counts > HEAVIEST * len(column)) & (counts >= FEWEST)
    apart &= (apart.sum() <= MOST_ATOMS) & (counts[~apart].sum() > 0)  # something is left that they are apart from
    return _Ties(
        common=float(values[counts.argmax()]),
        heaviest=float(counts.max() / len(column)),
        tied=float(counts[counts > 1].sum() / len(column)),
        heavy=_heavy(counts),
        atoms=tuple(float(value) for value in values[apart]),
        rest_heavy=_heavy(counts[~apart]),
    )


def _tail(column: Float64, step: float, low: float, ties: _Ties) -> Tail:
    """The tail of a column without its atoms, of values in steps in the middle of these."""
    apart = () if ties.rest_heavy else ties.atoms
    values = np.sort(column[~np.isnan(column)])
    if step > 0:
        return tail_of(values + step / 2, positive=low >= 0)
    return tail_of(values, positive=low > 0 or (low == 0 and 0.0 in apart))


def _heavy(counts: NDArray[np.int64]) -> bool:
    """Whether ties are heavy among rows with so many of each value."""
    n, most, tied = counts.sum(), counts.max(initial=0), counts[counts > 1].sum()
    return bool((most > HEAVIEST * n and most >= FEWEST) or (tied > TIED * n and tied >= FEWEST))
