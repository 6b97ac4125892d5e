"""What a transform promises, and the two ways to make one of others: Chain and Inverse."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, cast

import torch
from torch import Tensor, nn

from flowbench.transforms.plan import AsWritten, Constants, Plan

Pair = tuple[Tensor, Tensor]
"""What a direction returns: the rows moved (N, D), and the logarithm of the volume's change (N,)."""


class Transform(nn.Module):
    """An invertible map of rows between data space (x) and noise space (u), both (N, D).

    ``forward(x)`` returns ``(u, log_det)`` with ``log_det`` (N,) = log|det ∂u/∂x|; ``inverse(u)`` returns
    ``(x, log_det)`` with log|det ∂x/∂u|. Both are written as their equations, in torch's differentiable calls, and
    that is all a new transform needs. A flow runs them by an engine (`flowbench.engines`): a transform that gives a
    ``plan`` of its own may be run faster, any other is run as it is written.

    ``density_passes`` and ``sampling_passes`` count the runs of a conditioner network over all D columns that the
    textbook algorithm needs for each direction; 0 where there is no conditioner. One that has a ``context`` of so many
    numbers takes them, (N, context), as a second argument of both directions.

    >>> import torch
    >>> class Shift(Transform):
    ...     def forward(self, x):
    ...         return x - 1, x.new_zeros(len(x))
    ...     def inverse(self, u):
    ...         return u + 1, u.new_zeros(len(u))
    >>> Chain([Shift(), Shift()])(torch.tensor([[5.0, 2.0]]))
    (tensor([[3., 0.]]), tensor([0.]))
    """

    density_passes: int = 0
    sampling_passes: int = 0
    context: int = 0
    draws: int = 1
    """Random numbers of a column that a draw takes: standard normal ones, and uniform ones if there are more."""
    reach: Literal["own", "before", "all"] = "all"
    """Which columns of x a column of u depends on: its own, those up to it, or any."""

    def forward(self, x: Tensor) -> Pair:
        """Normalise: x (N, D) to (u, log|det ∂u/∂x|)."""
        raise NotImplementedError

    def inverse(self, u: Tensor) -> Pair:
        """Generate: u (N, D) to (x, log|det ∂x/∂u|)."""
        raise NotImplementedError

    def by_column(self, x: Tensor) -> Pair:
        """As ``forward``, with log|∂u_i/∂x_i| of each column, (N, D); of a transform whose ``reach`` is not "all"."""
        raise NotImplementedError

    @property
    def plan(self) -> Plan:
        """What an engine is told of this transform; a subclass that overrides a direction overrides its plan too."""
        return AsWritten(self.forward, self.inverse)

    def weights(self) -> list[Tensor]:
        """The parameters, in the order in which an engine gives their gradients."""
        return list(self.parameters())

    def constants(self) -> Constants:
        """What else the plan's algorithm reads: statistics, orders of columns."""
        return None

    def leaves(self) -> Iterator[tuple[Transform, bool]]:
        """The transforms that forward applies one after the other, and of each whether it is taken inversely."""
        yield self, False

    def __call__(self, x: Tensor, *context: Tensor) -> Pair:
        """Forward, with the type that ``nn.Module`` leaves open."""
        return super().__call__(x, *context)


class Undirected(Transform):
    """A density that is no map to noise, in a transform's place: rows have a ``density``, and are drawn."""

    def forward(self, x: Tensor) -> Pair:
        """There is none."""
        raise NotImplementedError("this density is no map of rows to noise")

    def inverse(self, u: Tensor) -> Pair:
        """There is none."""
        raise NotImplementedError("this density is no map of noise to rows")

    def density(self, x: Tensor) -> Tensor:
        """The log-density (N,) of x (N, D) in nats."""
        raise NotImplementedError

    def draw(self, noise: Tensor) -> Pair:
        """Rows (N, D) of random numbers (draws, N, D), and their log-densities (N,)."""
        raise NotImplementedError

    @property
    def plan(self) -> Plan:
        """Its density and its draws."""
        return AsWritten(self.forward, self.inverse, self.density, self.draw)


class Chain(Transform):
    """Transforms one after the other: forward applies the first one first, log-dets add up."""

    def __init__(self, transforms: Iterable[Transform]) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)
        self.density_passes = max((t.density_passes for t in self), default=0)
        self.sampling_passes = max((t.sampling_passes for t in self), default=0)
        self.context = max((t.context for t in self), default=0)

    def __iter__(self) -> Iterator[Transform]:
        return cast("Iterator[Transform]", iter(self.transforms))

    def __len__(self) -> int:
        return len(self.transforms)

    def forward(self, x: Tensor, *context: Tensor) -> Pair:
        """x (N, D) to (u, log_det), first transform first."""
        log_det = x.new_zeros(len(x))
        for transform in self:
            x, term = _given(transform, transform, x, context)
            log_det = log_det + term
        return x, log_det

    def inverse(self, u: Tensor, *context: Tensor) -> Pair:
        """u (N, D) to (x, log_det), last transform first."""
        log_det = u.new_zeros(len(u))
        for transform in reversed(list(self)):
            u, term = _given(transform, transform.inverse, u, context)
            log_det = log_det + term
        return u, log_det

    def leaves(self) -> Iterator[tuple[Transform, bool]]:
        """Those of all its transforms, first transform first."""
        for transform in self:
            yield from transform.leaves()


class Inverse(Transform):
    """A transform with its directions exchanged. IAF is this around MAF's transform (Kingma et al. 2016, §3)."""

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        if any(isinstance(leaf, WithStatistics) for leaf, _ in transform.leaves()):
            raise ValueError("statistics are those of data on its way to noise: invert what lies between")
        self.transform = transform
        self.density_passes = transform.sampling_passes
        self.sampling_passes = transform.density_passes
        self.context = transform.context

    def forward(self, x: Tensor, *context: Tensor) -> Pair:
        """The wrapped transform's inverse."""
        return _given(self.transform, self.transform.inverse, x, context)

    def inverse(self, u: Tensor, *context: Tensor) -> Pair:
        """The wrapped transform's forward."""
        return _given(self.transform, self.transform, u, context)

    def leaves(self) -> Iterator[tuple[Transform, bool]]:
        """The wrapped transform's, the other way round."""
        for leaf, inverted in reversed(list(self.transform.leaves())):
            yield leaf, not inverted


def _given(transform: Transform, direction: Callable[..., Pair], x: Tensor, context: tuple[Tensor, ...]) -> Pair:
    """One of its directions, with the context if it has one."""
    return direction(x, *context if transform.context else ())


def beside(context: Tensor | None, x: Tensor) -> Tensor:
    """Rows of what is given, if anything is, and then of x: (N, context + D)."""
    return x if context is None else torch.cat([context, x], 1)


LEAST_VARIANCE = 1e-6
"""Of a column, to begin with."""


class WithStart(Transform):
    """A transform that begins training where the rows that arrive at it say."""

    def begin(self, mean: Tensor, variance: Tensor) -> None:
        """Take the mean and the biased variance (D,) of the rows."""
        raise NotImplementedError


class WithStatistics(Transform):
    """A transform that uses the mean and variance of the whole training set, as it arrives there, in evaluation."""

    def set_statistics(self, mean: Tensor, variance: Tensor) -> None:
        """Take the mean and the biased variance (D,) of all training rows."""
        raise NotImplementedError
