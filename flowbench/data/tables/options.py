"""What of a user's own table is modelled, and how it is split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowbench.console import note
from flowbench.data.tables.files import TableFile
from flowbench.errors import DataError, UsageError, did_you_mean
from flowbench.seeds import stream

TRAIN, VALIDATION, TEST = 0, 1, 2
"""Parts of a split."""

CONTINUOUS, WHOLE, MIXED, CATEGORY = "continuous", "whole", "mixed", "category"
KINDS = (CONTINUOUS, WHOLE, MIXED, CATEGORY)
"""What a column can be said to be."""

LOG, ASINH = "log", "asinh"
TRANSFORMS = (LOG, ASINH)
"""What brings in a column's heavy tails."""

ALL = "all"
"""Of ``allow_ties``: every column."""


class Seeds(NamedTuple):
    """Of the two things that are drawn for a table: which rows go to which split, and the noise."""

    split: int = 0
    noise: int = 0


@dataclass(frozen=True)
class TableOptions:
    """How to make a dataset of a user's own table; the defaults take all of it.

    ``columns`` are the modelled ones in this order (empty: all), but for ``drop_columns``. Rows with a ``missing``
    value are an error (``refuse``), left out (``drop``), or kept, its being missing a part of the density
    (``indicator``). ``split`` is ``random`` (by seed), ``time`` (the last rows of the file are the test split,
    those before them validation) or a column: all rows with one value of it go to one split, by seed, and it is not
    modelled. ``test_fraction`` of all rows are the test split, and as many the validation split. ``dequantise`` adds
    uniform noise to whole numbers and to columns with heavy ties, which have no density without it. ``given`` columns
    are not modelled: the density is conditional on them. Those of text are classes, and so are those of numbers that
    ``classes`` names.

    ``kinds`` say of single columns what they are: ``continuous``, whatever ties there are; ``whole``, numbers that get
    noise as wide as their step; ``mixed``, continuous but for some values that many rows have; or a ``category``, as
    columns of text are. With ``found``, what a table's profile finds is taken for the others. ``bounds`` are (lower,
    upper), None where there is none. Columns that ``allow_ties`` names, or ``all``, are learnt as they are.
    ``column_transforms`` bring in heavy tails: ``log`` of numbers above 0, ``asinh`` of any; with ``tails_found``,
    those that the profile proposes are taken for the others. With the ``likelihood`` ``mass``, values in steps get a
    probability of their own, and no noise.

    Raises:
        UsageError: ``test_fraction`` leaves less than a tenth of the rows for training, or nothing for tests.
    """

    columns: tuple[str, ...] = ()
    drop_columns: tuple[str, ...] = ()
    missing: Literal["refuse", "drop", "indicator"] = "refuse"
    split: str = "random"
    test_fraction: float = 0.1
    dequantise: bool = False
    given: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    kinds: dict[str, str] = field(default_factory=dict)
    found: bool = False
    bounds: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)
    allow_ties: tuple[str, ...] = ()
    column_transforms: dict[str, str] = field(default_factory=dict)
    tails_found: bool = False
    likelihood: Literal["density", "mass"] = "density"

    def __post_init__(self) -> None:
        self._check_kinds()
        self._check_transforms()
        if not 0 < self.test_fraction <= 0.45:
            raise UsageError(
                f"the test fraction cannot be {self.test_fraction:g}",
                "give one above 0 and at most 0.45: validation takes as many rows as test",
            )

    @property
    def dropna(self) -> bool:
        """Whether rows with a missing value are left out."""
        return self.missing == "drop"

    @property
    def draws_noise(self) -> bool:
        """Whether what comes of a table may hold values that were drawn."""
        return self.dequantise or self.mass or self.found or bool(self.kinds) or self.missing == "indicator"

    @property
    def mass(self) -> bool:
        """Whether values in steps have a probability mass."""
        return self.likelihood == "mass"

    def kind_of(self, column: str) -> str | None:
        """What a column is said to be, if anything is said."""
        return self.kinds.get(column)

    def allows_ties(self, column: str) -> bool:
        """Whether a density of a column is learnt though it has heavy ties."""
        return column in self.allow_ties or ALL in self.allow_ties or self.kind_of(column) == CONTINUOUS

    @property
    def group(self) -> str | None:
        """The column by whose values the rows are split, if there is one."""
        return None if self.split in ("random", "time") else self.split

    def select(self, table: TableFile) -> tuple[str, ...]:
        """The columns to model.

        Raises:
            UsageError: a column is named that is not there, or one is named twice, or none is left.
        """
        ties = [name for name in self.allow_ties if name != ALL]
        said: dict[str, Sequence[str]] = {
            "--kind": [*self.kinds],
            "--bounds": [*self.bounds],
            "--transform": [*self.column_transforms],
            "--allow-ties": ties,
        }
        named = (*self.columns, *self.drop_columns, *self.given, *(name for names in said.values() for name in names))
        for name in (*named, *([self.group] if self.group else [])):
            table.require(name)
        for option, names in (("--columns", self.columns), ("--given", self.given)):
            if len(set(names)) < len(names):
                raise UsageError(f"{option} names one column twice: {', '.join(names)}")
        self._check_given()
        if self.split == "time" and "time" in table.columns:
            note("--split time takes rows in the order of the file, whatever column 'time' holds")
        if self.group in self.columns:
            raise UsageError(
                f"column {self.group!r} splits the rows, so it is not modelled", "leave it out of --columns"
            )
        left_out = {*self.drop_columns, *self.given, self.group}
        chosen = tuple(name for name in self.columns or table.columns if name not in left_out)
        for option, said_of in said.items():
            idle = [name for name in said_of if name not in chosen]
            if idle:
                raise UsageError(f"{option} says what modelled columns are; {idle[0]!r} is not modelled")
        if not chosen:
            raise UsageError(f"no column of {table.path} is left to model")
        return chosen

    def _check_given(self) -> None:
        for option, names in (("--columns", self.columns), ("--drop-columns", self.drop_columns)):
            twice = [name for name in self.given if name in names]
            if twice:
                raise UsageError(f"column {twice[0]!r} is given, so it is not modelled", f"leave it out of {option}")
        others = [name for name in self.classes if name not in self.given]
        if others:
            hint = f"--given takes the columns that are given: add {others[0]!r} to them"
            raise UsageError(f"--classes says which given columns are classes; {others[0]!r} is not given", hint)

    def _check_kinds(self) -> None:
        for name, kind in self.kinds.items():
            if kind not in KINDS:
                raise UsageError(f"column {name!r} cannot be of the kind {kind!r}", did_you_mean(kind, KINDS))
            if kind == CATEGORY and name in self.bounds:
                raise UsageError(f"column {name!r} is a category, so it has no bounds", "leave one of them out")
        for name, (low, high) in self.bounds.items():
            if low is None and high is None:
                raise UsageError(
                    f"column {name!r} has no bound on either side", "give --bounds COLUMN=LOW:HIGH, or one of the two"
                )
            if not all(np.isfinite(bound) for bound in (low, high) if bound is not None):
                raise UsageError(
                    f"the bounds of column {name!r} are not finite", "leave a side empty that has no bound"
                )
            if low is not None and high is not None and not low < high:
                raise UsageError(f"the bounds {low:g}:{high:g} of column {name!r} hold nothing between them")

    def _check_transforms(self) -> None:
        for name, transform in self.column_transforms.items():
            if transform not in TRANSFORMS:
                known = did_you_mean(transform, TRANSFORMS)
                raise UsageError(f"column {name!r} cannot have the transform {transform!r}", known)
            if self.kind_of(name) == CATEGORY:
                raise UsageError(f"column {name!r} is a category, so it has no transform", "leave one of them out")
            if name in self.bounds:
                raise UsageError(
                    f"column {name!r} has bounds and a transform: its bounds are a transform already, "
                    "a logarithm of the distance to them",
                    "leave one of them out",
                )

    def settings(self) -> dict[str, Any]:
        """What decides the rows that come of a table; what is said of single columns only where something is."""
        optional = (
            "given", "classes", "kinds", "found", "bounds", "allow_ties", "column_transforms", "tails_found",
        )  # fmt: skip
        return {key: value for key, value in asdict(self).items() if value or key not in optional}


def assign(
    rows: int,
    options: TableOptions,
    seeds: Seeds,
    groups: NDArray[np.int32] | None,
    drawn: Sequence[int] = (VALIDATION, TEST),
) -> NDArray[np.int8]:
    """The part of each row (N,): ``TRAIN`` or one of those ``drawn``; ``groups`` (N,) number the rows' groups.

    Raises:
        DataError: there are too few rows, or groups, for all parts.
    """
    share, random = int(options.test_fraction * rows), np.random.default_rng(stream(seeds.split, "split"))
    if groups is not None:
        return _assign_groups(groups, share, random, drawn)
    if share == 0:
        raise DataError(
            f"a test fraction of {options.test_fraction:g} of {rows} rows is less than one row", "give a larger one"
        )
    order = random.permutation(rows) if options.split == "random" else np.arange(rows)
    parts = np.full(rows, TRAIN, np.int8)
    for i, part in enumerate(reversed(drawn)):
        parts[order[rows - (i + 1) * share : rows - i * share]] = part
    return parts


def _assign_groups(
    groups: NDArray[np.int32], share: int, rng: np.random.Generator, drawn: Sequence[int]
) -> NDArray[np.int8]:
    """Whole groups in random order to those drawn, where at least half of one is still wanted.

    The largest is always trained on, and each of the parts gets a group.
    """
    groups = np.unique(groups, return_inverse=True)[1].astype(np.int32)  # of some, all rows may have been left out
    sizes = np.bincount(groups)
    if len(sizes) <= len(drawn):
        needed = ("two splits need two", "three splits need three")[len(drawn) - 1]
        raise DataError(
            f"the column to split by has {len(sizes)} different values: {needed} or more",
            "split by another column, or --split random",
        )
    left = dict.fromkeys(reversed(drawn), share)
    part_of = np.full(len(sizes), TRAIN, np.int8)
    shuffled = rng.permutation(len(sizes))
    shuffled = shuffled[shuffled != sizes.argmax()]
    for group in shuffled:
        part = max(left, key=lambda part: left[part])
        if left[part] <= 0:
            break
        if sizes[group] <= 2 * left[part]:
            part_of[group] = part
            left[part] -= int(sizes[group])
    for part in left:  # the smallest, where all are too large
        if not (part_of == part).any():
            candidates = shuffled[part_of[shuffled] == TRAIN]
            part_of[candidates[sizes[candidates].argmin()]] = part
    return part_of[groups]
