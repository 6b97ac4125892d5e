"""Where and how an epoch left the finite."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from torch import Tensor

from flowbench.errors import DivergedError
from flowbench.training.objective import Objective


def divergence(objective: Objective, batches: Iterator[Tensor], losses: Tensor, epoch: int) -> DivergedError:
    """The error of an epoch with these batches and losses: step, last finite loss, and the part that it began in.

    The weights are still those with which it did: none followed.
    """
    step = int((~losses.isfinite()).nonzero()[0])
    last = f"the last finite loss was {float(losses[step - 1]):.4g}" if step else "no loss of the epoch was finite"
    culprit = objective.culprit(next(islice(batches, step, None))) or "the gradient"
    return DivergedError(
        f"epoch {epoch}, step {step + 1}: the loss is {float(losses[step])}; {last}; first not finite: {culprit}"
    )
