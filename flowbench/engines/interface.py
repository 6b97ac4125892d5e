"""What an engine is: the two directions of a transform's plan, each with its pull-back, and a step of training.

Inside engines columns are rows of memory (features first, (D, N)), so that a run of units is contiguous. Engines work
without autograd: every direction comes with its vector–Jacobian product, the *pull*.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from flowbench.config import TrainingOptions
from flowbench.transforms.activation import RELU, TANH
from flowbench.transforms.affine import Affine
from flowbench.transforms.plan import MaskedPlan, Plan

Pull = Callable[[Tensor, Tensor, Sequence[Tensor]], Tensor]
"""From the cotangents of an output (D, N) and of its log_det (N,), that of the input (D, N).

Those of the stage's ``weights`` are written to the third argument, over what it held: nothing is copied on its way to
an optimizer.
"""

Moved = tuple[Tensor, Tensor, Pull]
"""An output (D, N), its log_det (N,), and the pull-back there."""

Density = tuple[Tensor, Callable[[Tensor, Sequence[Tensor]], Tensor]]
"""A log-density (N,), and its pull-back: from its cotangent (N,) that of the input (D, N), the weights' as above."""

Work = Callable[[Tensor], Tensor]
"""A step of training: from rows (N, D) the loss () before it."""


BETAS = 0.9, 0.999
"""Adam's shares of what its moments were before a step (Kingma and Ba 2015)."""

Update = Callable[[Tensor, float], None]
"""A step of the optimizer, after a loss () and at a rate."""


Launch = Callable[[Work, Tensor], Tensor]
"""Does a step's work on rows."""


@dataclass(frozen=True, eq=False)
class Joined:
    """Stages one after the other that an engine runs as one, ``how`` is its own affair.

    It takes columns (D, N) however they lie in memory.
    """

    stages: tuple[Stage, ...]
    how: Any


class Held(NamedTuple):
    """Numbers that a step of training keeps until the way back, and those of a stage while it is on that."""

    kept: int
    passing: int


class Stage(NamedTuple):
    """A transform as an engine sees it: its plan, its tensors, and whether flow's forward takes it inversely."""

    plan: Plan | Joined
    weights: list[Tensor]
    constants: Any
    """The plan's `Constants`."""
    inverted: bool = False
    context: Tensor | None = None
    """What the rows' transform is given, (N, context); it is the last of ``weights``, too."""


def in_kernels(plan: MaskedPlan) -> bool:
    """Whether what is written in kernels knows the whole of it: affine maps, relu or tanh units, layers and no more."""
    network = plan.network
    plain = not (network.residual or network.dropout or plan.context)
    return plain and type(plan.univariate) is Affine and network.activation in (RELU, TANH)


class Engine(Protocol):
    """Runs plans, all of them."""

    def join(self, stages: Sequence[Stage], dim: int) -> list[Stage]:
        """The stages on ``dim`` columns, those that it runs as one joined; what is derived from them is kept there."""
        ...

    def image(self, stage: Stage, x: Tensor) -> tuple[Tensor, Tensor]:
        """What leaves a stage (D, N) and log_det (N,), of x (D, N), in the direction that the stage says."""
        ...

    def log_prob(self, stage: Stage, x: Tensor) -> Tensor:
        """As ``density``, without the pull-back."""
        ...

    def descend(self, stage: Stage, x: Tensor, each: float, gradients: Sequence[Tensor]) -> Tensor:
        """As ``log_prob``, and in ``gradients`` those of ``each`` times its sum, of the stage's weights."""
        ...

    def held(self, stage: Stage, dim: int, rows: int) -> Held:
        """How many numbers ``descend`` holds of so many rows of ``dim`` columns, as the stage's plan tells."""
        ...

    def forward(self, stage: Stage, x: Tensor) -> Moved:
        """u (D, N), log_det (N,) and their pull-back, from x (D, N)."""
        ...

    def inverse(self, stage: Stage, u: Tensor) -> Moved:
        """x (D, N), log_det (N,) and their pull-back, from u (D, N)."""
        ...

    def density(self, stage: Stage, x: Tensor) -> Density:
        """The log-density (N,) of x (D, N) whose image by the stage is standard normal, and its pull-back."""
        ...

    def draw(self, stage: Stage, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Of a stage whose draws are not its inverse: x (D, N) of numbers (draws, D, N), and its log-density (N,).

        See `Univariate.draw`.
        """
        ...

    def updater(
        self, flat: Tensor, state: Mapping[str, Tensor], options: TrainingOptions, runs: Sequence[tuple[int, int]]
    ) -> Update | None:
        """What bounds the gradient and takes Adam's step, see `training.step`; None where torch's calls do it."""
        ...

    def launcher(self, device: torch.device) -> Launch:
        """How steps of training are launched on a device; it keeps what it learns of one step, so one a training."""
        ...
