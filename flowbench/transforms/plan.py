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
    """A fully connected network: ``packing`` says where its weights lie; no activation follows the last layer.

    Its levels of units are the input (0), the hidden ones, and the outputs. A ``residual`` network adds to the sums of
    the hidden levels 3, 5, ... those of the level two below, before the activation (see `transforms.network`). A share
    ``dropout`` of hidden units is left out at random, and the others are scaled up.
    """

    packing: Packing
    activation: Activation
    residual: bool = False
    dropout: float = 0.0

    def is_stream(self, level: int) -> bool:
        """Whether the sums of this level are carried on to the level two above, or come from the level two below."""
        return self.residual and level % 2 == 1 and level < len(self.packing.layers)

    def drops(self, level: int) -> bool:
        """Whether units of this level are left out at random: any hidden one, but for what blocks carry on."""
        hidden = 0 < level < len(self.packing.layers)
        return self.dropout > 0 and hidden and not self.is_stream(level)


@dataclass(frozen=True, eq=False)
class MaskedPlan:
    """A masked autoregressive transform of ``dim`` columns, given ``context`` numbers that all of them may see.

    The units of all levels (the input's columns, each hidden layer's units, the outputs) are numbered together, the
    input first, and within a level sorted by the step whose knowledge completes them. A step is a column; where there
    is a context, that is the first step, and it has no outputs. ``visible[level, step]`` is the first unit of ``level``
    that is *not* known when the steps before ``step`` are all that is known; so ``visible[level, step] ..
    visible[level, step + 1]`` are the units that belong to ``step``. A hidden unit of step s sees the units of steps up
    to s in the level below, an output of step s only those before s: that is all that "autoregressive" means.
    ``visible`` is (levels, steps + 1); its first and last columns bound the levels.
    """

    network: NetworkPlan
    univariate: Univariate
    visible: NDArray[np.int64]
    context: int = 0

    @property
    def steps(self) -> int:
        """The columns, and the context if there is one."""
        return self.visible.shape[1] - 1

    @property
    def first(self) -> int:
        """The step of the first column."""
        return int(self.context > 0)

    @property
    def dim(self) -> int:
        """The number of columns D."""
        return self.steps - self.first

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
        return slice(self.context + self.dim, int(self.visible[-1, 0]))

    @property
    def columns(self) -> slice:
        """The units that are the columns themselves."""
        return slice(self.context, self.context + self.dim)

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
    """A coupling: networks read the context and the columns that pass, and give, one after the other, θ.

    Each parameter comes for all columns that move before the next one; or, ``by_column``, as a MADE's outputs do, all
    parameters of a column before those of the next.
    """

    networks: tuple[NetworkPlan, ...]
    univariate: Univariate
    context: int = 0
    by_column: bool = False


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


Direction = Callable[..., tuple[Tensor, Tensor]]
"""Rows (N, D), and what they are given if anything is (N, context), to (rows (N, D), log_det (N,))."""


@dataclass(frozen=True, eq=False)
class AsWritten:
    """A transform of which nothing is known but its two directions.

    ``density`` is the log-density (N,) of rows whose image is standard normal, and ``draw`` makes rows of random
    numbers (draws, N, D), with their log-density, where that is less work than the directions.
    """

    forward: Direction
    inverse: Direction
    density: Callable[[Tensor], Tensor] | None = None
    draw: Direction | None = None


Plan = MaskedPlan | CouplingPlan | BatchNormPlan | PermutationPlan | AsWritten
Constants = MaskedConstants | CouplingConstants | Statistics | Orders | None
"""What a plan's algorithm reads besides weights."""
