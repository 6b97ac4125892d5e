"""Where and how an epoch left the finite."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from flowbench.errors import DivergedError
from flowbench.flows import Flow


@torch.no_grad()
def divergence(flow: Flow, batches: Iterator[Tensor], losses: Tensor, epoch: int) -> DivergedError:
    """The error of an epoch with these batches and losses: step, last finite loss, and the transform that it began in.

    The weights are still those with which it did: none followed.
    """
    step = int((~losses.isfinite()).nonzero()[0])
    last = f"the last finite loss was {float(losses[step - 1]):.4g}" if step else "no loss of the epoch was finite"
    x, culprit = next(islice(batches, step, None)), "the gradient"
    flow = flow.parts[0]
    for index, (leaf, _) in enumerate(flow.transform.leaves()):
        x, log_det = flow.moved_by(index, x)
        if not (x.isfinite().all() and log_det.isfinite().all()):
            culprit = f"transform {index} ({type(leaf).__name__})"
            break
    return DivergedError(
        f"epoch {epoch}, step {step + 1}: the loss is {float(losses[step])}; {last}; first not finite: {culprit}"
    )
