"""What an engine is: the two directions of a transform's plan, each with its pull-back, and a step of training.

Inside engines columns are rows of memory (features first, (D, N)), so that a run of units is contiguous. Engines work
without autograd: every direction comes with its vector–Jacobian product, the *pull*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from flowbench.transforms.plan import Plan

Pull = Callable[[Tensor, Tensor, Sequence[Tensor]], Tensor]
"""From the cotangents of an output (D, N) and of its log_det (N,), that of the input (D, N).

Those of the stage's ``weights`` are written to the third argument, over what it held: nothing is copied on its way to
an optimizer.
"""

Moved = tuple[Tensor, Tensor, Pull]
"""An output (D, N), its log_det (N,), and the pull-back there."""

Work = Callable[[Tensor], Tensor]
"""A step of training: from rows (N, D) the loss () before it."""


Launch = Callable[[Work, Tensor], Tensor]
"""Does a step's work on rows."""


class Stage(NamedTuple):
    """A transform as an engine sees it: its plan, its tensors, and whether flow's forward takes it inversely."""

    plan: Plan
    weights: list[Tensor]
    constants: Any
    """The plan's `Constants`."""
    inverted: bool = False


class Engine(Protocol):
    """Runs plans. What it does not claim is torch's to run."""

    def claims(self, plan: Plan) -> bool:
        """Whether it knows this plan's univariate map and activation."""
        ...

    def forward(self, stage: Stage, x: Tensor) -> Moved:
        """u (D, N), log_det (N,) and their pull-back, from x (D, N)."""
        ...

    def inverse(self, stage: Stage, u: Tensor) -> Moved:
        """x (D, N), log_det (N,) and their pull-back, from u (D, N)."""
        ...

    def launcher(self, device: torch.device) -> Launch:
        """How steps of training are launched on a device; it keeps what it learns of one step, so one a training."""
        ...
