"""Flows: a transform over a base density. One file a model; the file's name is its name on the command line.

A flow's file gives ``Options`` (a ``FlowOptions``) and ``build(dim, options) -> Flow``; its docstring names its paper.
"""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Generator, Tensor, nn

from flowbench.config import FlowOptions
from flowbench.data.rows import Rows
from flowbench.errors import UsageError, did_you_mean
from flowbench.transforms import Transform, WrittenTransform


class StandardNormal(nn.Module):
    """N(0, I) over D columns, the base density. ``origin`` (D,) carries device and dtype."""

    origin: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("origin", torch.zeros(dim), persistent=False)

    def log_prob(self, u: Tensor) -> Tensor:
        """Log-density (N,) of u (N, D) in nats."""
        return -0.5 * (u.square().sum(-1) + u.shape[-1] * math.log(2 * math.pi))

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """N draws (n, D)."""
        origin = self.origin
        return torch.randn(n, len(origin), device=origin.device, dtype=origin.dtype, generator=generator)


class Flow(nn.Module):
    """A density on rows of D columns: p(x) = p_base(f(x))·|det ∂f/∂x| (MAF paper, eq. 1)."""

    def __init__(self, dim: int, transform: Transform) -> None:
        super().__init__()
        self.dim = dim
        self.transform = transform
        self.base = StandardNormal(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Log-density (N,) of x (N, D) in nats, in the space of x. It *is* log_prob: what wraps a module wraps it."""
        u, log_det = self.transform(x)
        return self.base.log_prob(u) + log_det

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density (N,) of x (N, D) in nats."""
        return self(x)

    def backpropagate(self, x: Tensor) -> Tensor:
        """Minus the mean log-density of x (N, D), (); its gradient is left in the parameters' ``grad``.

        As ``-self(x).mean()`` and its ``backward``; where all gradients are written out, without autograd. A ``grad``
        that is there is overwritten in place.
        """
        transform = self.transform
        if not (isinstance(transform, WrittenTransform) and transform.written):
            self.zero_grad(set_to_none=False)
            with torch.enable_grad():
                loss = -self(x).mean()
                loss.backward()
            return loss.detach()
        parameters = transform.tensors()
        gradients = _places_for_gradients(parameters)
        each = -1 / max(1, len(x))
        with torch.no_grad():
            u, log_det, pull = transform.forward_vjp(x.t().contiguous())
            pull(u * -each, torch.full_like(log_det, each), gradients)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                place = parameter.grad if parameter.requires_grad else None
                if place is not None and gradient is not place:  # it is in the flow more than once
                    place += gradient
            return each * (log_det.sum() + self.base.log_prob(u.t()).sum())

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """N draws (n, D)."""
        return self.transform.inverse(self.base.sample(n, generator))[0]

    def sample_and_log_prob(self, n: int, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """N draws (n, D) and their log-densities (n,) in nats, for the price of the draws."""
        u = self.base.sample(n, generator)
        x, log_det = self.transform.inverse(u)
        return x, self.base.log_prob(u) - log_det

    def fit_closed_form(self, x: Rows) -> None:
        """Set what has a closed-form maximum-likelihood solution on the training set x (N, D); here nothing has."""

    def calibrate(self, x: Rows) -> None:
        """Take the statistics that evaluation uses (batch normalisation's) from the whole training set x (N, D)."""
        training = self.training
        self.eval()
        self.transform.calibrate(x)
        self.train(training)


def _places_for_gradients(parameters: list[Tensor]) -> list[Tensor]:
    """Each parameter's ``grad``, made where there is none; a new tensor for one that is frozen, or there again."""
    places: list[Tensor] = []
    taken: set[int] = set()
    for parameter in parameters:
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.empty_like(parameter)
        place = parameter.grad
        if place is None or id(parameter) in taken:
            place = torch.empty_like(parameter)
        places.append(place)
        taken.add(id(parameter))
    return places


class FlowFile(Protocol):
    """What a file in this folder provides."""

    Options: type[FlowOptions]

    def build(self, dim: int, options: Any) -> Flow:
        """The flow for rows of ``dim`` columns."""


def names() -> list[str]:
    """The flows there are: the files of this folder."""
    files = (path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))
    return sorted(set(files) - {"density"})


def load(name: str) -> FlowFile:
    """The flow's file.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in names():
        raise UsageError(f"unknown flow {name!r}", hint=did_you_mean(name, names()))
    return cast("FlowFile", importlib.import_module(f"flowbench.flows.{name}"))
