"""The same model built by other libraries, so that their times can stand beside ours: one adapter a library.

zuko, nflows and normflows run on torch, in this process. flowjax runs on JAX, jitted, in a process of its own that does
one piece of work when it is asked to: ``python -m flowbench.peers`` is that process.

All get what is best for them within their documented use: torch's get the fused Adam, flowjax its own jitted step.
Theirs are MAFs (and IAFs) of the same widths, activations and number of transforms, with their own affine maps, between
permutations, without batch normalisation; ours is timed with it.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from types import TracebackType
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from flowbench.console import UsageError

Work = Callable[[], object]
"""One run of what is timed."""

WORKS = ("density", "sampling", "step")
"""What every model does: densities of the rows, as many samples, and one step of training on them."""


@dataclass(frozen=True)
class Shape:
    """What a peer builds: an affine ``flow`` (maf or iaf) of ``transforms`` networks with ``hidden`` relu units."""

    flow: str
    dim: int
    hidden: tuple[int, ...]
    transforms: int


def obstacle(peer: str, shape: Shape) -> str | None:
    """Why ``peer`` cannot be timed at this shape; None if it can."""
    if shape.flow not in ("maf", "iaf"):
        return f"a {shape.flow} is built too differently there to have the same shape"
    if shape.dim < 2:
        return "one column leaves an autoregressive network nothing to do"
    if peer != "zuko" and len(set(shape.hidden)) != 1:
        return "its hidden layers have one width"
    try:
        importlib.import_module(peer)
    except ImportError:
        return "it is not installed; pip install 'flowbench[peers]' has it"
    return None


def _zuko(shape: Shape) -> tuple[Any, Work, Work]:
    import zuko

    flow = zuko.flows.MAF(shape.dim, transforms=shape.transforms, hidden_features=shape.hidden)
    if shape.flow == "iaf":
        steps = [zuko.lazy.LazyInverse(step) for step in flow.transform.transforms]
        flow = zuko.flows.Flow(steps, flow.base)
    return flow, lambda x: flow().log_prob(x), lambda n: flow().sample((n,))


def _nflows(shape: Shape) -> tuple[Any, Work, Work]:
    from nflows import transforms
    from nflows.distributions.normal import StandardNormal
    from nflows.flows.base import Flow

    steps: list[Any] = []
    for _ in range(shape.transforms):
        # its first layer is beside its blocks
        step = transforms.MaskedAffineAutoregressiveTransform(
            shape.dim, shape.hidden[0], num_blocks=len(shape.hidden) - 1, use_residual_blocks=False
        )
        steps += [transforms.InverseTransform(step) if shape.flow == "iaf" else step]
        steps += [transforms.ReversePermutation(shape.dim)]
    flow = Flow(transforms.CompositeTransform(steps[:-1]), StandardNormal([shape.dim]))
    return flow, flow.log_prob, flow.sample


def _normflows(shape: Shape) -> tuple[Any, Work, Work]:
    import normflows as nf
