"""Is a difference more than chance? Rows and seeds as two sources of variation, and many lines at once. No torch."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowbench.results.statistics import paired_difference

Lls = NDArray[np.float64]

RESAMPLES = 20_000
"""Of a bootstrap: the least chance that it can tell is 1 in so many."""


@dataclass(frozen=True)
class Difference:
    """A mean difference with the standard errors that its two sources of variation give it, each with its freedom.

    Over rows: what other test rows would have changed. Over seeds: what other seeds would have. Each of the two holds
    the noise of single rows under single seeds, so their sum errs to the side of doubt. ``seeds_stderr`` is measured
    where a side has two seeds or more, else None. ``seeds_bound`` is what a seed that is alone on its side may do
    (`bound_on_seeds`), 0 where that is not in question, and None where nothing is known of it.
    """

    mean: float
    rows_stderr: float
    rows_dof: float
    seeds_stderr: float | None
    seeds_dof: int
    seeds_bound: float | None = 0.0

    @property
    def stderr(self) -> float:
        """Of both sources together."""
        return math.hypot(self.rows_stderr, self.seeds_stderr or 0.0, self.seeds_bound or 0.0)

    @property
    def as_measured(self) -> Difference:
        """Without the bound, where the seeds' spread is measured on one side at least."""
        return replace(self, seeds_bound=0.0) if self.seeds_dof else self

    @property
    def is_known(self) -> bool:
        """Whether something is known of what seeds do."""
        return self.seeds_dof > 0 or self.seeds_bound is not None

    @property
    def dof(self) -> float:
        """Degrees of freedom of ``stderr``, by Satterthwaite (1946); a bound is not estimated, and takes none."""
        rows, seeds = self.rows_stderr**2, (self.seeds_stderr or 0.0) ** 2
        if rows + seeds == 0 or math.isnan(rows) or self.rows_dof <= 0:
            return self.rows_dof
        parts = rows**2 / self.rows_dof + (seeds**2 / self.seeds_dof if self.seeds_dof else 0.0)
        return self.stderr**4 / parts if parts else math.inf

    def p_above(self, limit: float) -> float:
        """The chance of a mean this low or lower, were the true difference ``limit`` or more; 1 where it is unknown."""
        if not self.is_known:
            return 1.0
        if self.stderr == 0:  # bit for bit the same
            return float(self.mean >= limit)
        from scipy.special import stdtr  # 0.2 s that are needed only where there is a difference

        t = (self.mean - limit) / self.stderr
        return float(stdtr(self.dof, t)) if math.isfinite(t) else 1.0

    def p_below(self, limit: float) -> float:
        """The chance of a mean this high or higher, were the true difference ``limit`` or less."""
        return replace(self, mean=-self.mean).p_above(-limit)

    def quantile(self, p: float) -> float:
        """How far above its true value the mean lies at the most in a share ``p`` of all cases; infinite if unknown."""
        if not self.is_known:
            return math.inf
        from scipy.special import stdtrit

        return self.stderr * float(stdtrit(self.dof, p)) if self.stderr else 0.0


def difference(a: Sequence[Lls], b: Sequence[Lls]) -> Difference:
    """Mean of a − b, each the values (N,) of the same rows under one or more seeds; paired over rows.

    The spread over seeds is taken from the sides that have several. A lone seed need not be like those of the other
    side (now and then one gets stuck where the others do not): the bound on what it may do is added.

    Raises ValueError where the shapes are not one and the same (N,).
    """
    # the mean of a single seed's rows are these rows: of thousands of lines that is half the work
    mean, stderr = paired_difference(*(side[0] if len(side) == 1 else np.mean(side, axis=0) for side in (a, b)))
    rows, share = len(a[0]), 1 / len(a) + 1 / len(b)
    measured, dof = _over_seeds([[float(x.mean()) for x in side] for side in (a, b)])
    lone = min(len(a), len(b)) == 1
    bound = bound_on_seeds(stderr**2 * rows * 2 / share) if lone else 0.0
    return Difference(mean, stderr, rows - 1, measured, dof, bound)


def bound_on_seeds(variance: float) -> float:
    """A bound, as a standard error in nats, on what seeds alone do to the difference of two runs' mean likelihoods.

    ``variance`` is that of the rows' differences. Let two seeds' log-densities be log p̄ + e₁ and log p̄ + e₂, with e
    independent and small. Both densities integrate to one, so that on rows drawn from p̄ seed s loses Var(e_s)/2 nats,
    and with Var(e₁) + Var(e₂) the variance τ² of the rows' differences the two differ by τ²/2 at the most. This takes
    that for two standard errors. Rows are drawn from the truth and not from p̄: for flows far from it the bound is no
    law, and that it covers what seeds do is measured (``results/ci/calibration.py``). Beyond τ = 1 the e are not small
    and the square overshoots by far; there it goes on as τ, still above what was measured.
    """
    return min(variance, math.sqrt(variance)) / 4


def unpaired_difference(a: Sequence[tuple[float, float]], b: Sequence[tuple[float, float]], rows: int) -> Difference:
    """As ``difference`` where only each seed's mean and standard error over ``rows`` are known.

    What makes a row hard for both sides is not taken off: the error is several times that of pairs.
    """
    stderr = math.hypot(*(math.sqrt(sum(error**2 for _, error in side) / len(side)) for side in (a, b)))
    means = [[mean for mean, _ in side] for side in (a, b)]
    mean, (measured, dof) = float(np.mean(means[0]) - np.mean(means[1])), _over_seeds(means)
    return Difference(mean, stderr, 2 * (rows - 1), measured, dof, 0.0 if dof else None)


def _over_seeds(means: Sequence[Sequence[float]]) -> tuple[float | None, int]:
    """The standard error that seeds give the difference of two sides' means, and its degrees of freedom.

    The spread is pooled: seeds are taken to scatter alike on both sides.
    """
    dof = sum(len(side) - 1 for side in means)
    if not dof:
        return None, 0
    variance = sum(float(np.square(np.subtract(side, np.mean(side))).sum()) for side in means) / dof
    return math.sqrt(variance * sum(1 / len(side) for side in means)), dof


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """P-values (m,) adjusted so that the chance of even one false rejection among all m is at most the level.

    Holm 1979, "A simple sequentially rejective multiple test procedure". Rejecting where the adjusted value is at most
    the level is his procedure; the p-values may depend on each other in any way.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


class Ratio:
    """The geometric mean of measured ratios (n,), and by a bootstrap over them what chance does to it.

    The usual bootstrap of few values is too narrow: it takes their spread to be known. Here the *studentised* mean of
    the logarithms is resampled, t = (mean − true mean)/s. Weights from Beta(1/2, 3/2) stand in place of counts, so that
    no resample is of one value alone, of which s is 0 (Owen 2025, "Better bootstrap t confidence intervals for the
    mean", arXiv:2508.10083). Of 7 normal values 0.9% were called significant at the level of 0.83%, the usual bootstrap
    with corrected quantiles called 1.2%.
    """

    def __init__(self, ratios: ArrayLike) -> None:
        logs = np.log(np.asarray(ratios, dtype=np.float64))
        self._n, self._mean, self._s = logs.size, float(logs.mean()), float(logs.std())
        weights = _weights(logs.size)
        means = weights @ logs
        spread = np.sqrt(np.maximum(weights @ logs**2 - means**2, 0))
        self._t = np.divide(means - self._mean, spread, out=np.zeros(RESAMPLES), where=spread > 0)

    @property
    def value(self) -> float:
        """The ratio itself."""
        return math.exp(self._mean)

    def p_below(self, limit: float) -> float:
        """The chance of a ratio this high or higher, were the true one ``limit`` or less; 1 where it is unknown."""
        return self._p(limit, lambda t: self._t >= t)

    def p_above(self, limit: float) -> float:
        """The chance of a ratio this low or lower, were the true one ``limit`` or more; 1 where it is unknown."""
        return self._p(limit, lambda t: self._t <= t)

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """Where the true ratio lies with this confidence; None where one value cannot tell."""
        if self._n < 2:
            return None
        high, low = np.quantile(self._t, [(1 - level) / 2, (1 + level) / 2])
        return math.exp(self._mean - self._s * low), math.exp(self._mean - self._s * high)

    def least_found(self, limit: float, level: float, power: float) -> float | None:
        """The smallest true ratio whose measured one is above ``limit`` beyond chance at ``level``, ``power`` often."""
        if self._n < 2:
            return None
        beyond_chance, missed = np.quantile(self._t, [1 - level, 1 - power])
        return limit * math.exp(self._s * (beyond_chance - missed))

    def _p(self, limit: float, as_extreme: Callable[[float], NDArray[np.bool_]]) -> float:
        distance = self._mean - math.log(limit)
        if self._n < 2:
            return 1.0
        t = distance / self._s if self._s else math.copysign(math.inf, distance)
        return float(1 + np.count_nonzero(as_extreme(t))) / (1 + RESAMPLES)


@functools.cache
def _weights(n: int) -> NDArray[np.float64]:
    """The weights of n values in each resample, always the same: a comparison can be judged again."""
    weights = np.random.default_rng(0).beta(0.5, 1.5, size=(RESAMPLES, n))
    return weights / weights.sum(axis=1, keepdims=True)
