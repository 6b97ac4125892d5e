"""Piecewise-linear splines of the logistic function: densities that jump where it is known that they do."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.special import log_ndtr

from flowbench.transforms.mixture import quantile
from flowbench.transforms.univariate import Univariate, standard_normal

LEAST = 1e-3
"""Of a bin's mass to begin with."""


class Bins(NamedTuple):
    """Of bins, or of the bin that each value lies in: the logarithm of its mass, and of all that lies before and after.

    Masses before *and* after, since of a tail only the smaller one is known to floating point.
    """

    mass: Tensor
    before: Tensor
    after: Tensor

    @classmethod
    def of(cls, log_masses: Tensor) -> Bins:
        """Of bins (K, ...) one after the other."""
        none = torch.full_like(log_masses[:1], -torch.inf)
        before, after = log_masses.logcumsumexp(0), log_masses.flip(0).logcumsumexp(0).flip(0)
        return cls(log_masses, torch.cat([none, before[:-1]]), torch.cat([after[1:], none]))

    def at(self, index: Tensor) -> Bins:
        """The bins (...) of these numbers (...)."""
        return Bins(*(logs.gather(0, index[None])[0] for logs in self))


class LogisticSpline(Univariate):
    """u = Φ⁻¹(F(σ(x))), with F piecewise linear: K bins between knots of x, each with a share of the mass.

    Within a bin σ(x) is uniform. So are, in logit space, pixels whose values are levels and uniform noise; their
    density jumps between levels, which no mixture of smooth ones follows. θ are the logits of the K = knots + 1 masses;
    the outer bins reach to −∞ and ∞. Both directions are closed-form (Müller et al. 2019, "Neural Importance Sampling",
    §4.1, with bins of unequal width).
    """

    start_share = 0.01
    draws = 2

    def __init__(self, knots: Sequence[float]) -> None:
        if not knots or any(a >= b for a, b in pairwise(knots)):
            raise ValueError("knots are one number or more, and increase")
        self.knots = torch.tensor(knots, dtype=torch.float64, device="cpu")
        self.parameters = len(knots) + 1

    def forward(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """x to (u, log p(x) − log φ(u))."""
        index = self._index(x)
        bin_ = Bins.of(theta.log_softmax(0)).at(index)
        below, above = _moved((logsigmoid(x), logsigmoid(-x)), self._logistic(theta).at(index), bin_)
        u = torch.where(below < above, quantile(below), -quantile(above))
        return u, self._log_density(x, index, bin_.mass) - standard_normal(u)

    def inverse(self, u: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """u to (x, log φ(u) − log p(x))."""
        bins, below, above = Bins.of(theta.log_softmax(0)), log_ndtr(u), log_ndtr(-u)
        index = torch.where(u < 0, bins.before[1:] <= below, bins.after[:-1] >= above).sum(0)
        bin_ = bins.at(index)
        log_cdf, log_tail = _moved((below, above), bin_, self._logistic(theta).at(index))
        x = log_cdf - log_tail
        return x, standard_normal(u) - self._log_density(x, index, bin_.mass)

    def density(self, x: Tensor, theta: Tensor) -> Tensor:
        """log p(x)."""
        index = self._index(x)
        return self._log_density(x, index, theta.log_softmax(0).gather(0, index[None])[0])

    def draw(self, noise: Tensor, theta: Tensor) -> Tensor:
        """A bin by the second number, and a place in it by the first."""
        normal, uniform = noise
        passed = (theta.softmax(0).cumsum(0) <= uniform).sum(0)
        bin_ = self._logistic(theta).at(passed.clamp_max(self.parameters - 1))
        log_cdf, log_tail = _placed(log_ndtr(normal), log_ndtr(-normal), bin_)
        return log_cdf - log_tail

    def start(self, mean: Tensor, scale: Tensor) -> Tensor:
        """The masses of a normal of this mean and standard deviation, none less than a thousandth."""
        knots = self.knots.to(mean).view(-1, *[1] * mean.ndim)
        passed = torch.special.ndtr((knots - mean) / scale)
        masses = torch.cat([passed[:1], passed.diff(dim=0), 1 - passed[-1:]])
        return masses.clamp(min=LEAST).log()

    def _index(self, x: Tensor) -> Tensor:
        return torch.bucketize(x.detach().contiguous(), self.knots.to(x), right=True)

    def _logistic(self, like: Tensor) -> Bins:
        """The logistic distribution's bins, for each value of θ (K, ...)."""
        tails = logsigmoid(self.knots), logsigmoid(-self.knots)
        end, whole = torch.full_like(tails[0][:1], -torch.inf), torch.zeros_like(tails[0][:1])
        before, after = torch.cat([end, tails[0]]), torch.cat([tails[1], end])
        upto, beyond = torch.cat([tails[0], whole]), torch.cat([whole, tails[1]])
        mass = torch.where(upto < beyond, _log_difference(upto, before), _log_difference(beyond, after))
        shape = -1, *[1] * (like.ndim - 1)
        return Bins(*(logs.to(like).view(shape).expand_as(like) for logs in (mass, before, after)))

    def _log_density(self, x: Tensor, index: Tensor, log_mass: Tensor) -> Tensor:
        log_width = self._logistic(x.expand(self.parameters, *x.shape)).mass.gather(0, index[None])[0]
        return log_mass - log_width + logsigmoid(x) + logsigmoid(-x)


def _moved(tails: tuple[Tensor, Tensor], bin_: Bins, to: Bins) -> tuple[Tensor, Tensor]:
    """The logarithms of both tails at the same share of another distribution's bin, from those of one's."""
    below, above = tails
    log_low, log_high = _log_difference(below, bin_.before) - bin_.mass, _log_difference(above, bin_.after) - bin_.mass
    log_share = torch.where(below < above, log_low, _log_rest(log_high))
    log_rest = torch.where(below < above, _log_rest(log_low), log_high)
    return _placed(log_share, log_rest, to)


def _placed(log_share: Tensor, log_rest: Tensor, bin_: Bins) -> tuple[Tensor, Tensor]:
    return torch.logaddexp(bin_.before, bin_.mass + log_share), torch.logaddexp(bin_.after, bin_.mass + log_rest)


def _log_difference(greater: Tensor, less: Tensor) -> Tensor:
    """log(exp a − exp b), which is finite at a = b: of what is no more than rounding nothing is known."""
    return greater + _log_rest(less - greater)


def _log_rest(log_share: Tensor) -> Tensor:
    """log(1 − exp s) of s ≤ 0."""
    return torch.log(-torch.expm1(log_share.clamp(max=-torch.finfo(log_share.dtype).tiny)))
