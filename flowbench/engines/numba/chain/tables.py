"""A chain of transforms as tables of numbers, which compiled kernels walk along: one kernel for every chain.

Values of a tile of rows lie one below the other: a *row of memory* is a column's or a unit's values, and places are
counted in such rows. Weights are found by their addresses.
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
        # of its networks: levels first..end−1 of the table, and where the columns that they read lie; of an order, memory
        # by way of which cotangents go
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
    """The tables.

    Of each unit (``LEVEL.unit`` on): where its weights begin in their tensor (``starts``), how many units of the level
    below it sees (``sees``) and of how many it has weights (``holds``, with those that a mask keeps zero), where the units
    of its strip end (``ends``), and where its bias and its weights begin in a buffer of gradients (``places``). Of each unit below (``LEVEL.unit_below`` on): the first unit
    above that sees it (``seen_from``), and the next unit from which on some unit above sees no further (``cuts``).
    """

    stages: Any
    levels: Any
    starts: Integers
    sees: Integers
    ends: Integers
    holds: Integers
    places: Integers
    seen_from: Integers
    cuts: Integers
    columns: Integers
    """Orders and parts of columns, one after the other, and `MaskedPlan.visible` of each masked stage, within levels."""
    cuts_at: Integers
    """Stages before which all rows must have come: the first, normalisations by the batch, and the end."""
    dim: int
    log_det: int
    """The row of memory for log_det; behind it that of its cotangents. Those of the columns are the first rows."""
