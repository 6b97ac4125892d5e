"""The discrete part of a table's rows: columns of classes, and values of columns of numbers that have a probability.

A row (c, x) of classes c and numbers x has a density with respect to the counting measure of c times the Lebesgue
measure of those x that are there: p(c, x) = p(c)·p(x | c). Where a column has atoms (zeros among continuous values, or
values that are missing), a code of its own says which of them a row has, or that its number is a continuous one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt

from flowbench.data.preprocessing import Preprocessing, noise_widths

Float64 = NDArray[np.float64]


class Category(BaseModel):
    """A modelled column of classes: a value's code is the place of its label."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    labels: tuple[str, ...] = Field(min_length=1)

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.labels)


class Atoms(BaseModel):
    """The values with a probability of their own in one of the D ``column`` s of numbers; None is a missing value.

    A value's code is its place among them, counted from 1; that of all other numbers is 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: NonNegativeInt
    values: tuple[FiniteFloat | None, ...] = Field(min_length=1)

    def codes(self, numbers: Float64) -> NDArray[np.int64]:
        """The code (n,) of each of these values (n,) of the column."""
        found = np.zeros(len(numbers), np.int64)
        for code, value in enumerate(self.values, 1):
            found[np.isnan(numbers) if value is None else numbers == value] = code
        return found

    def of(self, codes: NDArray[np.int64]) -> Float64:
        """The values (n,) of codes (n,), all of them above 0."""
        values = np.array([np.nan, *(np.nan if value is None else value for value in self.values)])
        return values[codes]

    def __str__(self) -> str:
        """It in words."""
        return ", ".join("missing" if value is None else f"{value:g}" for value in self.values)


class Discrete(BaseModel):
    """What of rows is discrete: the first columns are codes, of ``categories`` and then of ``atoms``.

    Of a row in a flow's space (G + C + D,), C are these codes and D the numbers; a number that is not there has a value
    drawn from N(0, 1) in its place, whose density is taken off again (see `flowbench.flows.core.tabular`). Numbers
    whose values come in ``steps`` (D widths in the flow's space, 0 of others; none at all where there are none) have
    a probability mass, too; ``origins`` are the middles of one of each column's steps (`flowbench.flows.core.mass`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    categories: tuple[Category, ...] = ()
    atoms: tuple[Atoms, ...] = ()
    steps: tuple[Annotated[FiniteFloat, Field(ge=0)], ...] = ()
    origins: tuple[FiniteFloat, ...] = ()

    @property
    def classes(self) -> tuple[int, ...]:
        """The number of codes of each of the C columns."""
        return (*(column.classes for column in self.categories), *(1 + len(atoms.values) for atoms in self.atoms))

    @property
    def tells_of(self) -> tuple[int | None, ...]:
        """Of each of the C columns the number that is there only where its code is 0; None of categories."""
        return (*(None for _ in self.categories), *(atoms.column for atoms in self.atoms))

    def codes(self, numbers: Float64) -> Float64:
        """The codes (n, A) of the atoms in numbers (n, D), as floating point."""
        found = [atoms.codes(numbers[:, atoms.column]) for atoms in self.atoms]
        return np.stack(found, 1).astype(np.float64) if found else np.empty((len(numbers), 0))

    def counted(self, codes: NDArray[np.floating], dim: int) -> NDArray[np.bool_]:
        """Which of the numbers (n, D) of rows with these codes (n, C) have no density: absent ones, and steps."""
        absent = self.absent(codes, dim)
        return absent | (np.array(self.steps) > 0) if self.steps else absent

    def absent(self, codes: NDArray[np.floating], dim: int) -> NDArray[np.bool_]:
        """Which of the numbers (n, D) of rows with these codes (n, C) are not there."""
        found = np.zeros((len(codes), dim), np.bool_)
        for place, column in enumerate(self.tells_of):
            if column is not None:
                found[:, column] = codes[:, place] != 0
        return found

    def restored(self, codes: Float64, numbers: Float64) -> Float64:
        """The numbers (n, D) with atoms, and NaN for missing values, where codes (n, C) say so."""
        restored, first = numbers.copy(), len(self.categories)
        for place, atoms in enumerate(self.atoms, first):
            code = codes[:, place].astype(np.int64)
            restored[:, atoms.column] = np.where(code > 0, atoms.of(code), numbers[:, atoms.column])
        return restored

    def log_frequencies(self, train: NDArray[np.floating], rows: NDArray[np.floating]) -> Float64:
        """Log-probability (n,) of the codes ``rows`` (n, C), each column by itself, by how often codes are in training.

        Each class counts one row more than ``train`` (N, C) has of it (Laplace's rule): none is impossible.
        """
        total = np.zeros(len(rows))
        for place, classes in enumerate(self.classes):
            counts = 1.0 + np.bincount(train[:, place].astype(np.int64), minlength=classes)
            total += np.log(counts / counts.sum())[rows[:, place].astype(np.int64)]
        return total


def dequantised(
    columns: Sequence[str] | None, preprocessing: Preprocessing | None, discrete: Discrete | None
) -> dict[str, float]:
    """The columns that uniform noise was added to, by name, and its width in their raw units."""
    numbers = (columns or ())[len(discrete.categories) if discrete else 0 :]
    mass = (discrete and discrete.steps) or (0.0,) * len(numbers)
    widths = noise_widths(preprocessing)
    return {name: width for name, width, own in zip(numbers, widths, mass, strict=False) if width and not own}


LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


def log_fill(numbers: NDArray[np.floating], absent: NDArray[np.bool_]) -> Float64:
    """The log-density (n,) of the values, drawn from N(0, 1), that stand in for what is ``absent`` of (n, D)."""
    terms = -0.5 * np.square(numbers.astype(np.float64)) - LOG_SQRT_2PI
    return np.asarray(np.where(absent, terms, 0.0).sum(axis=1))


def none_if_empty(
    categories: Sequence[Category], atoms: Sequence[Atoms], steps: Sequence[float] = (), origins: Sequence[float] = ()
) -> Discrete | None:
    """The discrete part; None where there is none."""
    if not any(steps):
        steps = origins = ()
    found = Discrete(categories=tuple(categories), atoms=tuple(atoms), steps=tuple(steps), origins=tuple(origins))
    return found if categories or atoms or steps else None
