"""Whether a density can be learnt of a table: refusals that name columns, and say what to do."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowbench.data.dataset import Float64
from flowbench.data.moments import Moments
from flowbench.data.tables.dependence import Dependence
from flowbench.data.tables.options import KINDS, TableOptions
from flowbench.data.tables.profile import Profile
from flowbench.errors import DataError

FEWEST_ROWS = 10  # of which a tenth is one row

FINEST_STEP = 1e-6
"""In standard deviations: of a finer one float32 leaves too little for noise to separate ties."""


FINEST_MASS = 1e-4
"""In standard deviations: of a finer step float32 has no more than three digits, and its mass an error of 1e-3 nats."""


def refuse_unfit(
    path: Path | str, profile: Profile, options: TableOptions, locate: Callable[[int], tuple[Path, int]] | None = None
) -> None:
    """Refuse a table of which no density can be learnt, whatever the split.

    ``locate`` has the file of a row and its number there, if the table is in several.

    Raises:
        DataError: values are missing or infinite, rows are too few, or a column is constant or follows from another.
    """
    if not profile.seen:
        raise DataError(f"{path} is an empty table: it has no rows", "expected at least 10 rows of numbers")
    if options.missing == "refuse":
        hint = (
            "fill it in, leave its row out (--missing drop), or have its being missing modelled (--missing indicator)"
        )
        _refuse_values(path, profile, profile.missing, profile.first_missing, "missing value", hint, locate)
    hint = "replace it, or leave its row out"
    _refuse_values(path, profile, profile.infinite, profile.first_infinite, "infinite value", hint, locate)
    if profile.rows < FEWEST_ROWS:
        rows = "1 row" if profile.rows == 1 else f"{profile.rows} rows"
        raise DataError(
            f"{path} has only {rows}" + (" without missing values" if profile.incomplete else ""),
            f"expected at least {FEWEST_ROWS}, to be split into training, validation and test",
        )
    empty = profile.missing == profile.seen
    if empty.any():
        raise DataError(f"{path}: {_names(profile, empty)} no values", _drop(profile, empty))
    if profile.constant.any():
        values = [f"{profile.columns[i]!r} is constant ({profile.low[i]:g})" for i in _at(profile.constant)]
        raise DataError(f"{path}: column {listed(values)}, so there is no density", _drop(profile, profile.constant))
    twins = [f"{profile.columns[i]!r} from {profile.columns[profile.twin[i]]!r}" for i in _at(profile.twin >= 0)]
    if twins:
        raise DataError(
            f"{path} has columns that follow from others (their correlation is above 0.9999): "
            f"{listed(twins)}, so there is no density",
            _drop(profile, profile.twin >= 0),
        )


def refuse_dependent(path: Path | str, profile: Profile, noisy: NDArray[np.bool_]) -> None:
    """Refuse columns that are linear combinations of others; with one that is ``noisy`` (D,) among them they are none.

    Raises:
        DataError: there is one.
    """
    which = np.zeros(len(profile.columns), np.bool_)
    found = [each for each in profile.dependences if each.exact and not noisy[[each.column, *each.others]].any()]
    which[[each.column for each in found]] = True
    if found:
        in_words = listed([followed(profile, each) for each in found], "; ")
        raise DataError(
            f"{path}: {in_words}, as a linear combination: its rows lie in a plane, so there is no density",
            _drop(profile, which),
        )


def refuse_ties(path: Path | str, profile: Profile, ties: NDArray[np.bool_]) -> None:
    """Refuse columns (D,) that have whole numbers or heavy ``ties``, on which a density can grow without bound.

    Raises:
        DataError: there are any; the hint says what makes a density of them.
    """
    lost = {i: found for i in _at(ties) if (found := _resolution(profile, int(i)))}
    if lost:
        listed_too = [f"{profile.columns[i]!r} ({resolution})" for i, resolution in lost.items()]
        which = "column" if len(lost) == 1 else "columns"
        raise DataError(
            f"{path}: {which} {listed(listed_too)} differ by no more than floating point can tell so far from zero: "
            "what set their values apart is lost",
            "subtract an offset before they are rounded to it; "
            f"or {_drop(profile, np.isin(np.arange(len(ties)), list(lost)))}",
        )
    stepless = ties & np.isnan(profile.step)
    smooth = stepless & ~profile.discrete
    if smooth.any():
        raise DataError(
            f"{path}: {_names(profile, smooth)} no step that all values are multiples of", "it is continuous"
        )
    if stepless.any():
        raise DataError(
            f"{path}: {_names(profile, stepless)} heavy ties, but the values are not multiples of any step: "
            "no noise can make them continuous",
            "; or ".join(_ways_with_ties(profile, stepless)),
        )
    if ties.any():
        raise DataError(
            f"{path}: {_names(profile, ties)} only whole numbers or heavy ties, "
            "on which a continuous density can grow without bound",
            f"--dequantise adds uniform noise as wide as the column's step; --kind COLUMN={'|'.join(KINDS)} says what "
            f"one column is, and --kind found takes what is found; or {_drop(profile, ties)}",
        )


def _resolution(profile: Profile, column: int) -> str | None:
    """What floating point leaves of a column's values, in words, where that is why there are ties."""
    low, high, step = profile.low[column], profile.high[column], profile.step[column]
    nearest, farthest = np.sort(np.abs([low, high]))
    if not (low > 0 or high < 0) or high - low > nearest:
        return None
    if np.isnan(step):  # ties are due as soon as there are about as many rows as there are numbers in the range
        lost = float(np.spacing(farthest))
        return (
            f"float64 has steps of {lost:g} around {farthest:.3g}"
            if lost * profile.rows > 0.01 * (high - low)
            else None
        )
    if step == np.spacing(nearest):
        return f"float64 has steps of {step:g} around {nearest:.3g}"
    # even numbers of eight digits, such as amounts of money, are no reason to think of float32
    if step < 1 and step == np.spacing(np.float32(nearest)):
        return f"float32 has steps of {step:g} around {nearest:.3g}"
    return None


def _ways_with_ties(profile: Profile, stepless: NDArray[np.bool_]) -> Iterator[str]:
    """What can be done with columns (D,) whose heavy ties have no step."""
    if (profile.tied > 0.9).all():
        yield "remove rows that are repeated"
    names = [profile.columns[i] for i in _at(stepless)]
    apart = [profile.columns[i] for i in _at(stepless) if profile.atoms[i] and not profile.rest_heavy[i]]
    if apart and len(names) == 1:
        yield f"take the values that many rows have apart (--kind {_quoted(apart)}=mixed)"
    elif apart:
        yield "take values that many rows have apart where there are such (--kind COLUMN=mixed)"
    yield _drop(profile, stepless)
    yield f"go on with the danger (--allow-ties {_quoted(names)})"


def refuse_without_atoms(path: Path | str, profile: Profile, which: NDArray[np.bool_]) -> None:
    """Raise DataError where columns (D,) are said to be mixed, and no value is in many rows, or nearly all are."""
    if which.any():
        raise DataError(
            f"{path}: {_names(profile, which)} no few values that many rows have, which could stand apart",
            "leave --kind COLUMN=mixed out, or give it for another column",
        )


def refuse_unscalable(
    path: Path | str,
    profile: Profile,
    widths: Float64,
    moments: Moments,
    extremes: tuple[Float64, Float64],
    mass: NDArray[np.bool_],
) -> None:
    """Refuse columns that the ``moments`` of training rows (D,) do not bring into float32's range.

    ``extremes`` are the least and the greatest values (D,) of all rows, in the space of the moments; ``mass`` (D,) says
    which columns' steps have a probability.

    Raises:
        DataError: a column is constant in training, beyond floating point, or too fine for its noise.
    """
    location, scale, constant = moments.mean, moments.deviation, moments.constant
    if constant.any():
        raise DataError(
            f"{path}: {_names(profile, constant, 'is', 'are')} constant in the training rows: "
            "other values are too rare",
            "drop it (--drop-columns), or give more rows or another --seed",
        )
    with np.errstate(all="ignore"):
        low, high = extremes
        farthest = np.maximum(np.abs(low - location), np.abs(high - location)) / scale
    unfit = ~np.isfinite(scale) | (scale == 0) | ~(farthest < np.finfo(np.float32).max)
    if unfit.any():
        raise DataError(f"{path}: {_names(profile, unfit)} values or a spread beyond floating point", "rescale")
    too_fine = mass & (widths < FINEST_MASS * scale)
    if too_fine.any():
        raise DataError(
            f"{path}: {_names(profile, too_fine)} steps too fine beside the spread for a probability in float32",
            "leave --likelihood mass out: a density says the same of such values",
        )
    fine = profile.heavy & (widths > 0) & (widths < FINEST_STEP * scale)
    if fine.any():
        raise DataError(
            f"{path}: {_names(profile, fine)} heavy ties and a step too fine beside its spread: "
            "in float32 no noise separates them",
            _drop(profile, fine) + ", or bring its farthest values nearer",
        )


def followed(profile: Profile, dependence: Dependence) -> str:
    """A dependence in words."""
    others = listed([repr(profile.columns[i]) for i in dependence.others])
    return f"column {profile.columns[dependence.column]!r} follows from {others}"


def _refuse_values(
    path: Path | str,
    profile: Profile,
    counts: NDArray[np.int64],
    first: NDArray[np.int64],
    what: str,
    hint: str,
    locate: Callable[[int], tuple[Path, int]] | None,
) -> None:
    for i in _at(counts > 0):
        file, row = locate(int(first[i])) if locate else (path, first[i])
        number = f"1 {what}" if counts[i] == 1 else f"{counts[i]} {what}s, the first"
        number = number if locate is None or counts[i] == 1 else f"the first of {counts[i]} {what}s"
        raise DataError(f"{file}: column {profile.columns[i]!r} has {number} in row {row}", hint)


def _at(which: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.flatnonzero(which)


def _names(profile: Profile, which: NDArray[np.bool_], one: str = "has", many: str = "have") -> str:
    at = _at(which)
    names = listed([repr(profile.columns[i]) for i in at])
    return f"column {names} {one}" if len(at) == 1 else f"columns {names} {many}"


def listed(items: list[str], mark: str = ", ") -> str:
    """The first ten of them, and how many more there are."""
    return mark.join(items[:10]) + (f" and {len(items) - 10:,} more" if len(items) > 10 else "")


def _quoted(names: list[str]) -> str:
    """Names as an option reads them."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(names[:10])
    return shlex.quote(line.getvalue())


def _drop(profile: Profile, which: NDArray[np.bool_]) -> str:
    names = [profile.columns[i] for i in _at(which)]
    more = " and more" if len(names) > 10 else ""
    return f"leave out what has no density with --drop-columns {_quoted(names)}{more}"
