"""What a latent variable model reached on test rows: its bound, and log p(x) by importance sampling."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from flowbench.data.rows import Rows
from flowbench.results import statistics as stats
from flowbench.results.record import Estimate
from flowbench.results.variational import Bound
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

    ``means`` (N, K) are those of the latents, ``samples`` is S.
    """

    bound: Lls
    log_likelihood: Lls
    divergence: Lls
    reconstruction: Lls
    ess: Lls
    means: Lls
    samples: int = field(kw_only=True)

    @property
    def bias(self) -> float:
        """By how much the estimate of log p(x) is too low: half the relative variance of the mean weight.

        That is Σw²/(Σw)² − 1/S of each row, and so the bias to the first order in 1/S (Nowozin 2018, "Debiasing
        evidence approximations", section 2).
        """
        return 0.5 * float((1 / self.ess - 1 / self.samples).mean())


def evaluate(model: LatentModel, rows: Rows, samples: int, seed: int) -> Evaluation:
    """The figures of all rows, with so many draws from the posterior of each."""
    generator = torch.Generator(rows.device).manual_seed(seed)
    parts = []
    for z, reconstruction, divergence in model.draws(rows, samples, generator):
        log_weights = (reconstruction - divergence).cpu().double()  # where there is float64 for certain
        log_sum = log_weights.logsumexp(1)
        parts.append(
            (
                log_weights.mean(1),
                log_sum - math.log(samples),
                divergence.cpu().double().mean(1),
                reconstruction.cpu().double().mean(1),
                (2 * log_sum - (2 * log_weights).logsumexp(1)).exp(),
                z.cpu().double().mean(1),
            )
        )
    found: list[Lls] = [torch.cat(each).numpy() for each in zip(*parts, strict=True)]
    return Evaluation(*found, samples=samples)


def bound_of(found: Evaluation, validation: float | None, truth: Lls | None) -> Bound:
    """As a record has it; ``truth`` (N,) is log p(x) where it is known."""
    return Bound(
        validation_bound_nats=validation,
        bound_nats=_estimate(found.bound),
        log_likelihood_nats=_estimate(found.log_likelihood),
        importance_samples=found.samples,
        ess=float(found.ess.mean()),
        ess_of_a_20th=float(np.quantile(found.ess, 0.05)),
        bias_nats=max(0.0, found.bias),
        kl_nats=_estimate(found.divergence),
        reconstruction_nats=_estimate(found.reconstruction),
        latents=found.means.shape[1],
        active_latents=int((found.means.var(0) > ACTIVE).sum()),
        true_test_ll_nats=None if truth is None else float(truth.mean()),
        nats_below_truth=None if truth is None else _estimate(truth - found.bound),
    )


def doubts_of(found: Evaluation, attainable: Lls | None = None) -> tuple[str, ...]:
    """What figures should be doubted for; ``attainable`` is log p(x) (N,) where the family has the true posterior."""
    low = float(np.quantile(found.ess, 0.05))
    doubts = []
    if attainable is not None:
        below, stderr = stats.mean_and_stderr(attainable - found.bound)
        if below - 2 * stderr > SHORT:
            doubts.append(f"the true posterior is of this family, and the bound {below:.2g} nats below log p(x)")
    if found.bias > BIASED:
        doubts.append(f"log p(x) is estimated about {found.bias:.2f} nats too low: more importance_samples tell")
    if found.samples > 1 and low < max(1.5, FEW * found.samples):
        said = f"of a 20th of the rows fewer than {low:.1f} of {found.samples} importance samples count"
        doubts.append(f"{said}: their log p(x) hangs on a few draws")
    return tuple(doubts)


def _estimate(values: Lls) -> Estimate:
    mean, stderr = stats.mean_and_stderr(values)
    return Estimate(mean=mean, stderr=stderr)
