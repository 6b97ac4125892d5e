"""What a latent variable model reached on test rows: its bound, and log p(x) by importance sampling."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from flowbench.data.rows import Rows
from flowbench.results import statistics as stats
from flowbench.results.variational import Bound
from flowbench.training.recording import estimate
from flowbench.variational.bound import LatentModel

Lls = NDArray[np.float64]

ACTIVE = 0.01
"""The variance over rows of a latent's posterior mean from which on it is active (Burda et al. 2016)."""

SHORT = 0.005
"""Nats below log p(x) that training leaves where the posterior's family has the true one (0.001 was measured)."""

FEW, BIASED = 0.05, 0.1
"""The share of effective samples, and the bias in nats, beyond which an estimate of log p(x) is doubted."""


@dataclass(frozen=True)
class Evaluation:
    """Of each test row: the bound and its two terms, the estimate of log p(x), effective samples; all (N,).

    ``by_half`` (N,) is the mean of the estimates that either half of the samples gives. ``means`` (N, K) are those of
    the latents, ``errors`` (N, K) their variances as means of draws; ``samples`` is S. Of one sample there are none.
    """

    bound: Lls
    log_likelihood: Lls
    divergence: Lls
    reconstruction: Lls
    ess: Lls
    by_half: Lls
    means: Lls
    errors: Lls
    samples: int = field(kw_only=True)

    @property
    def bias(self) -> float | None:
        """By how much the estimate of log p(x) is too low, at the least: what it gains from S/2 to S samples.

        A bias of the order 1/S, to which it comes where weights have a variance, is halved by twice the samples; where
        they have none it falls more slowly, and is larger than that.
        """
        return float((self.log_likelihood - self.by_half).mean()) if self.samples > 1 else None

    @property
    def active(self) -> int | None:
        """Latents whose posterior mean varies over rows, by more than draws have it vary."""
        if self.samples == 1 or not np.isfinite(self.means).all():
            return None
        by_draws = self.errors.mean(0)
        chance = 4 * by_draws * math.sqrt(2 / len(self.means))  # four standard deviations of what draws do
        return int((self.means.var(0) - by_draws > ACTIVE + chance).sum())


def evaluate(model: LatentModel, rows: Rows, samples: int, seed: int) -> Evaluation:
    """The figures of all rows, with so many draws from the posterior of each."""
    generator = torch.Generator(rows.device).manual_seed(seed)
    half = samples // 2
    parts = []
    for z, reconstruction, divergence in model.draws(rows, samples, generator):
        z, reconstruction, divergence = (each.cpu().double() for each in (z, reconstruction, divergence))  # float64
        weights = reconstruction - divergence
        log_sum = weights.logsumexp(1)
        halves = [weights[:, :half], weights[:, samples - half :]] if half else [weights]
        parts.append(
            (
                weights.mean(1),
                log_sum - math.log(samples),
                divergence.mean(1),
                reconstruction.mean(1),
                (2 * log_sum - (2 * weights).logsumexp(1)).exp(),
                torch.stack([each.logsumexp(1) for each in halves]).mean(0) - math.log(max(1, half)),
                z.mean(1),
                z.var(1, correction=1 if samples > 1 else 0) / samples,
            )
        )
    found: list[Lls] = [torch.cat(each).numpy() for each in zip(*parts, strict=True)]
    return Evaluation(*found, samples=samples)


def bound_of(found: Evaluation, validation: float | None, truth: Lls | None) -> Bound:
    """As a record has it; ``truth`` (N,) is log p(x) where it is known."""
    return Bound(
        validation_bound_nats=validation,
        bound_nats=estimate(found.bound),
        log_likelihood_nats=estimate(found.log_likelihood),
        importance_samples=found.samples,
        ess=float(found.ess.mean()),
        ess_of_a_20th=float(np.quantile(found.ess, 0.05)),
        bias_nats=found.bias,
        kl_nats=estimate(found.divergence),
        reconstruction_nats=estimate(found.reconstruction),
        latents=found.means.shape[1],
        active_latents=found.active,
        true_test_ll_nats=None if truth is None else float(truth.mean()),
        nats_below_truth=None if truth is None else estimate(truth - found.bound),
    )


def doubts_of(found: Evaluation, attainable: Lls | None = None) -> tuple[str, ...]:
    """What figures should be doubted for; ``attainable`` is log p(x) (N,) where the family has the true posterior."""
    low = float(np.quantile(found.ess, 0.05))
    doubts = []
    if attainable is not None:
        below, stderr = stats.mean_and_stderr(attainable - found.bound)
        if below - 2 * stderr > SHORT:
            doubts.append(f"the true posterior is of this family, and the bound {below:.2g} nats below log p(x)")
    if found.bias is None:
        doubts.append("of one importance sample the estimate of log p(x) is the bound: more importance_samples tell")
    elif found.bias > BIASED:
        doubts.append(f"log p(x) is estimated {found.bias:.2f} nats too low at the least: more importance_samples tell")
    if found.samples > 1 and low < max(1.5, FEW * found.samples):
        said = f"of a 20th of the rows fewer than {low:.1f} of {found.samples} importance samples count"
        doubts.append(f"{said}: their log p(x) hangs on a few draws")
    return tuple(doubts)
