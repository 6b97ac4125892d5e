"""A chain of transforms as tables of numbers, which compiled kernels walk along: one kernel for every chain.

Values of a tile of rows lie one below the other: a *row of memory* is a column's or a unit's values, and places are
counted in such rows. Tables, weights and memory are found by their addresses: what kernels are called with are a few
arrays of integers, and one of them calls another without being compiled again with it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MASKED, COUPLED, NORMALISED, ORDERED = 0, 1, 2, 3
"""Kinds of a stage."""

STAGE = np.dtype(
    [
        ("kind", np.int64),
        ("inverted", np.int64),
        # rows of memory: what comes, what leaves, and the log-scales of columns that move
        ("come", np.int64),
        ("leave", np.int64),
        ("scales", np.int64),
        # of its networks: levels first..end−1 of the table, and where the columns that they read lie; of an order,
        # memory by way of which cotangents go
        ("first_level", np.int64),
        ("end_level", np.int64),
        ("seen", np.int64),
        # parameters: the shift of moved column j is row ``theta + j·step``, its raw scale ``apart`` below that
        ("theta", np.int64),
        ("step", np.int64),
        ("apart", np.int64),
        # columns in the table of columns: those that pass or, of an order, all; and those that move
        ("passed", np.int64),
        ("passes", np.int64),
        ("moved", np.int64),
        ("moves", np.int64),
        ("visible", np.int64),
        # the first of its weights
        ("weight", np.int64),
        # of a normalisation: its number among them, and whether its statistics are the batch's
        ("norm", np.int64),
        ("by_batch", np.int64),
        ("gain", np.float64),
        ("bound", np.float64),
        ("epsilon", np.float64),
    ],
    align=True,
)

LEVEL = np.dtype(
    [
        ("units", np.int64),
        ("below", np.int64),
        ("is_first", np.int64),
        ("is_last", np.int64),
        ("is_tanh", np.int64),
        # rows of memory: its units' values and cotangents, and those of the level below
        ("values", np.int64),
        ("values_below", np.int64),
        ("cotangents", np.int64),
        ("cotangents_below", np.int64),
        # weights: which tensor, where its biases begin there, where its units begin in the tables, and those below
        ("weight", np.int64),
        ("bias", np.int64),
        ("unit", np.int64),
        ("unit_below", np.int64),
    ],
    align=True,
)

Integers = NDArray[np.int64]


class Chain(NamedTuple):
    """The tables, where they were built and, found again, in kernels."""

    stages: Any
    levels: Any
    # of each unit (``LEVEL.unit`` on): where its weights begin in their tensor, how many units of the level below it
    # sees and of how many it has weights (those that a mask keeps zero, too), where the units of its strip end, and
    # where its bias and its weights begin in a buffer of gradients
    starts: Integers
    sees: Integers
    ends: Integers
    holds: Integers
    places: Integers
    # of each unit below (``LEVEL.unit_below`` on): the first unit above that sees it, and the next unit from which on
    # some unit above holds no weights
    seen_from: Integers
    cuts: Integers
    columns: Integers
    """Orders and parts of columns, one after the other, and `MaskedPlan.visible` of masked stages, within levels."""
    segments: Integers
    """Stages before which all rows must have come: the first, normalisations by the batch, and the end."""
    dim: int
    log_det: int
    """The row of memory for log_det; behind it that of its cotangents. Those of the columns are the first rows."""

    def addresses(self) -> Integers:
        """Where the tables are and how long, and the numbers."""
        arrays = [number for table in self[:-2] for number in (table.ctypes.data, len(table))]
        return np.array([*arrays, *self[-2:]], np.int64)


class Memory(NamedTuple):
    """Where a call works, in the same way."""

    room: Any
    """Cut into parts, a row of memory having so many numbers (``pitch``)."""
    bounds: Integers
    """Where tiles begin among the rows, (tiles + 1,)."""
    statistics: Any
    """Of each normalisation: the mean and variance that it uses, (norms, 2, D), in double precision."""
    sums: Any
    """Twice, forth and back: of each tile and normalisation, (2, tiles, norms, 2, D)."""
    gradients: Any
    """A buffer for each thread, (threads, ·)."""
    turned: Any
    """Room for values with rows and units exchanged, (threads, ·)."""
    pitch: int
    size: int
    """Of a part of the room."""
    shared: int
    """Whether tiles of one thread take the same part, one after the other."""

    def addresses(self) -> Integers:
        """Where the arrays are and how long, and the numbers."""
        arrays = [number for array in self[:6] for number in (array.ctypes.data, len(array))]
        return np.array([*arrays, self.gradients.shape[1], self.turned.shape[1], *self[6:]], np.int64)
