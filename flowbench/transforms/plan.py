"""Plans: what an engine is told of a transform. Immutable, and without weights.

An engine is never handed a module: it gets a plan, the tensors that belong to it, and rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from flowbench.transforms.activation import Activation
from flowbench.transforms.packing import Packing
from flowbench.transforms.univariate import Univariate


@dataclass(frozen=True, eq=False)
class NetworkPlan:
    """A fully connected network: ``packing`` says where its weights lie; no activation follows the last layer."""

    packing: Packing
    activation: Activation


@dataclass(frozen=True, eq=False)
class MaskedPlan:
    """A masked autoregressive transform of ``dim`` columns.

    The units of all levels (the input's columns, each hidden layer's units, the outputs) are numbered together, the
    input first, and within a level sorted by the column whose knowledge completes them. ``visible[level, step]`` is
    the first unit of ``level`` that is *not* known when the columns before ``step`` are all that is known; so
    ``visible[level, step] .. visible[level, step + 1]`` are the units that belong to column ``step``. A hidden unit of
    column s sees the units of columns up to s in the level below, an output of column s only those before s: that is
    all that "autoregressive" means. ``visible`` is (levels, dim + 1); its first and last columns bound the levels.
    """

    network: NetworkPlan
    univariate: Univariate
    visible: NDArray[np.int64]

    @property
    def dim(self) -> int:
        """The number of columns D."""
        return self.visible.shape[1] - 1

    @property
    def levels(self) -> int:
        """How many levels of units there are, input and outputs among them."""
        return len(self.visible)

    @property
    def units(self) -> int:
        """How many units there are in all levels."""
        return int(self.visible[-1, -1])

    @property
    def hidden(self) -> slice:
        """The units of all hidden levels."""
        return slice(self.dim, int(self.visible[-1, 0]))

    def level(self, level: int) -> slice:
        """The units of one level."""
        return slice(int(self.visible[level, 0]), int(self.visible[level, -1]))


class MaskedConstants(NamedTuple):
    """Masks of the network's gradients, and `Packing.places` and ``visible`` where a kernel reads them."""

    masks: Tensor
    starts: Tensor
    biases: Tensor
    visible: Tensor


@dataclass(frozen=True, eq=False)
class CouplingPlan:
    """A coupling: networks read the columns that pass and give, one after the other, the map's parameters."""

    networks: tuple[NetworkPlan, ...]
    univariate: Univariate


class CouplingConstants(NamedTuple):
    """The columns that pass, those that move, the order that merges them; and masks, which dense networks lack."""

    passed: Tensor
    moved: Tensor
    merged: Tensor
    masks: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class BatchNormPlan:
    """Batch normalisation, by the batch's own statistics or by given ones."""

    epsilon: float
    by_batch: bool


class Statistics(NamedTuple):
    """The training set's mean and biased variance (D,)."""

    mean: Tensor
    variance: Tensor


@dataclass(frozen=True, eq=False)
class PermutationPlan:
    """Columns in another order."""


class Orders(NamedTuple):
    """An order of the columns (D,), and the order that undoes it."""

    there: Tensor
    back: Tensor


Direction = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Rows (N, D) to (rows (N, D), log_det (N,))."""


@dataclass(frozen=True, eq=False)
class AsWritten:
    """A transform of which nothing is known but its two directions."""

    forward: Direction
    inverse: Direction


Plan = MaskedPlan | CouplingPlan | BatchNormPlan | PermutationPlan | AsWritten
Constants = MaskedConstants | CouplingConstants | Statistics | Orders | None
"""What a plan's algorithm reads besides weights."""
