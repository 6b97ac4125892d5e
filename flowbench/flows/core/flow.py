"""A flow: a transform over a base density, run by an engine."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from flowbench.data.rows import Rows
from flowbench.engines import Engine, Stage, choose
from flowbench.engines.differentiate import compose, run
from flowbench.transforms import Pair, Transform


class StandardNormal(nn.Module):
    """N(0, I) over D columns, the base density. ``origin`` (D,) carries device and dtype."""

    origin: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("origin", torch.zeros(dim), persistent=False)

    def log_prob(self, u: Tensor) -> Tensor:
        """Log-density (N,) of u (N, D) in nats."""
        return -0.5 * (u.square().sum(-1) + u.shape[-1] * math.log(2 * math.pi))

    def slope(self, u: Tensor) -> Tensor:
        """∂ log p(u)/∂u, of any shape: what a step of training begins its way back with."""
        return -u

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """n draws (n, D)."""
        origin = self.origin
        return torch.randn(n, len(origin), device=origin.device, dtype=origin.dtype, generator=generator)


class Flow(nn.Module):
    """A density on rows of D columns: p(x) = p_base(f(x))·|det ∂f/∂x| (MAF paper, eq. 1).

    Args:
        dim: the number of columns D.
        transform: f, from data to noise.
        engine: what runs it; None: the one that suits the rows' device and dtype.

    >>> import torch
    >>> from flowbench.transforms import Affine, Chain, MaskedAutoregressive, Permutation
    >>> steps = [MaskedAutoregressive(3, (16,), Affine()) for _ in range(2)]
    >>> flow = Flow(3, Chain([steps[0], Permutation.reverse(3), steps[1]]))
    >>> x = torch.randn(5, 3)
    >>> flow.log_prob(x).shape
    torch.Size([5])
    >>> u, log_det = flow.to_noise(x)
    >>> torch.allclose(flow.to_data(u)[0], x, atol=1e-4)
    True
    """

    def __init__(self, dim: int, transform: Transform, engine: Engine | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.transform = transform
        self.base = StandardNormal(dim)
        self.engine = engine

    def forward(self, x: Tensor) -> Tensor:
        """The log-density (N,) of x (N, D) in nats, in the space of x: log p(x) = log p_base(u) + log|det ∂u/∂x|.

        It *is* ``log_prob``: whatever wraps a module (data parallelism, compilation, ``torch.func``) wraps that.
        """
        u, log_det = self.to_noise(x)
        return self.base.log_prob(u) + log_det

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density (N,) of x (N, D) in nats: log p(x) = log p_base(f(x)) + log|det ∂f/∂x|."""
        return self(x)

    def to_noise(self, x: Tensor) -> Pair:
        """x (N, D) to (u, log|det ∂u/∂x|): the transform's forward, by an engine.

        Raises:
            ValueError: rows of another number of columns or another dtype than the flow's.
        """
        if _is_watched(x):
            return self.transform(x)
        self._refuse_others(x)
        return run(self.stages(), x, self.engine or choose(x))

    def to_data(self, u: Tensor) -> Pair:
        """u (N, D) to (x, log|det ∂x/∂u|): the transform's inverse, by an engine; raises as ``to_noise``."""
        if _is_watched(u):
            return self.transform.inverse(u)
        self._refuse_others(u)
        stages = [stage._replace(inverted=not stage.inverted) for stage in reversed(self.stages())]
        return run(stages, u, self.engine or choose(u))

    def stages(self) -> list[Stage]:
        """The transform as engines see it, one leaf after the other."""
        leaves = self.transform.leaves()
        return [Stage(leaf.plan, leaf.weights(), leaf.constants(), inverted) for leaf, inverted in leaves]

    def _refuse_others(self, rows: Tensor) -> None:
        dtype = self.base.origin.dtype
        if rows.ndim != 2 or rows.shape[1] != self.dim or rows.dtype != dtype:
            found = f"{tuple(rows.shape)} of {rows.dtype}"
            raise ValueError(
                f"expected rows of shape (N, {self.dim}) of {dtype}, got {found}"
            )  # a kernel would not ask

    def backpropagate(self, x: Tensor) -> Tensor:
        """Minus the mean log-density of x (N, D), (); its gradient is left in the parameters' ``grad``.

        As ``-self(x).mean()`` and its ``backward``, without autograd. A ``grad`` that is there is overwritten in place.
        """
        self._refuse_others(x)
        stages = self.stages()
        parameters = [weight for stage in stages for weight in stage.weights]
        gradients = _places_for_gradients(parameters)
        each = -1 / max(1, len(x))
        with torch.no_grad():
            u, log_det, pull = compose(stages, x.t().contiguous(), self.engine or choose(x))
            pull(self.base.slope(u) * each, torch.full_like(log_det, each), gradients)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                place = parameter.grad if parameter.requires_grad else None
                if place is not None and gradient is not place:  # it is in the flow more than once
                    place += gradient
            return each * (log_det.sum() + self.base.log_prob(u.t()).sum())

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """n draws (n, D)."""
        return self.to_data(self.base.sample(n, generator))[0]

    def sample_and_log_prob(self, n: int, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """n draws (n, D) and their log-densities (n,) in nats, for the price of the draws."""
        u = self.base.sample(n, generator)
        x, log_det = self.to_data(u)
        return x, self.base.log_prob(u) - log_det

    def fit_closed_form(self, x: Rows) -> None:
        """Set what has a closed-form maximum-likelihood solution on the training set x (N, D); here nothing has."""


def _is_watched(x: Tensor) -> bool:
    """Whether ``torch.func`` or autocast look on: then the equations are run as they are written."""
    return torch._C._are_functorch_transforms_active() or torch.is_autocast_enabled(x.device.type)


def _places_for_gradients(parameters: list[Tensor]) -> list[Tensor]:
    """Each parameter's ``grad``, made where there is none; a new tensor for one that is frozen, or there again."""
    places: list[Tensor] = []
    taken: set[int] = set()
    for parameter in parameters:
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.empty_like(parameter)
        place = parameter.grad if parameter.requires_grad else None
        if place is None or id(parameter) in taken:
            place = torch.empty_like(parameter)
        places.append(place)
        taken.add(id(parameter))
    return places
