"""The records of variational inference: of a posterior of a latent variable model, and of a fit to a target.

Never imports torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from flowbench.results.fields import MOST_TIMINGS, Count, Figure, Name, Positive, Spread
from flowbench.results.record import Estimate, Part, Trained

Direction = Literal["sample", "density"]
"""What is timed of a posterior: a sample with its density, or the density of a given point."""

Way = Literal["one pass", "substitution", "passes"]
"""How: the direction that is one pass of each network, the other one by substitution or by the textbook's D passes."""


class Bound(Part):
    """What a latent variable model reached on test rows, in nats, log-likelihoods with respect to the rows' own space.

    ``bound_nats`` is the evidence lower bound E_q[log p(x, z) − log q(z | x)] and ``log_likelihood_nats`` what
    importance sampling from q estimates log p(x) to be: log (1/K) Σ_k p(x, z_k) / q(z_k | x) with K
    ``importance_samples``, the same as those of the bound. Its expectation is below log p(x), by ``bias_nats`` at the
    least: what it gains from K/2 to K samples. ``ess`` is the effective sample size (Σ w)² / Σ w², of K: its mean over
    rows, and what a 20th of the rows does not reach.

    ``kl_nats`` is E_q[log q(z | x) − log p(z)], ``reconstruction_nats`` E_q[log p(x | z)]: their difference is the
    bound. ``active_latents`` are those whose posterior mean varies over rows by more than 0.01 (Burda et al. 2016),
    beyond what draws have it vary. Where log p(x) is known, ``nats_below_truth`` is the mean of log p(x) minus the
    bound.
    """

    validation_bound_nats: Figure = None
    bound_nats: Estimate | None = None
    log_likelihood_nats: Estimate | None = None
    importance_samples: Count | None = None
    ess: Figure = None
    ess_of_a_20th: Figure = None
    bias_nats: Spread = None
    kl_nats: Estimate | None = None
    reconstruction_nats: Estimate | None = None
    latents: Count | None = None
    active_latents: Count | None = None
    true_test_ll_nats: Figure = None
    nats_below_truth: Estimate | None = None


class PosteriorTiming(Part):
    """Of a direction of q(z | x), the encoder's output given: median and quartiles in microseconds a row."""

    direction: Direction
    way: Way
    batch: Count
    us_per_row: Positive
    us_per_row_q1: Positive
    us_per_row_q3: Positive
    runs: Count


class PosteriorRecord(Trained):
    """The record of ``flowbench posterior``. ``networks`` says in words what encoder and decoder were."""

    kind: Literal["posterior"] = "posterior"
    networks: Name = ""
    bound: Bound = Bound()
    costs: list[PosteriorTiming] = Field(default=[], max_length=MOST_TIMINGS)

    @property
    def measured(self) -> Estimate | None:
        """The bound."""
        return self.bound.bound_nats


class TargetFit(Part):
    """What an approximation q reached of a density p(z) = p̃(z) / Z, in nats.

    ``bound_nats`` is E_q[log p̃ − log q], a lower bound on log Z, over ``draws`` of q whose noise is the same for every
    q. ``log_z_nats`` is what importance sampling makes of the same draws, log (1/N) Σ p̃/q, with its error to the first
    order; ``ess`` is the effective number of them, (Σ w)² / Σ w², and ``largest_weight`` the part that the heaviest
    has of Σ w. ``kl_nats`` is KL(q ‖ p), ``true_log_z_nats`` minus the bound, where log Z is known. Where p has exact
    draws, ``forward_kl_nats`` is KL(p ‖ q) = E_p[log p − log q] over ``exact_draws``: what q misses of p shows there
    and nowhere else. Of means and standard deviations of coordinates, the two that are worst: by how many of p's
    standard deviations a mean is off, and how many times p's a standard deviation is; ``exact_sd_ratio`` is what that
    is of exact draws, since heavy tails have theirs in draws that hardly come. ``steps`` are those of training.
    """

    validation_bound_nats: Figure = None
    steps: Count | None = None
    draws: Count | None = None
    bound_nats: Estimate | None = None
    log_z_nats: Estimate | None = None
    true_log_z_nats: Figure = None
    kl_nats: Estimate | None = None
    ess: Spread = None
    largest_weight: Spread = None
    exact_draws: Count | None = None
    forward_kl_nats: Estimate | None = None
    worst_mean_in_sds: Figure = None
    worst_mean_coordinate: Count | None = None
    worst_sd_ratio: Spread = None
    worst_sd_coordinate: Count | None = None
    exact_sd_ratio: Spread = None


class TargetRecord(Trained):
    """The record of ``flowbench fit-target``; its rows' figures are log p̃ − log q of each draw."""

    kind: Literal["target"] = "target"
    fit: TargetFit = TargetFit()
    costs: list[PosteriorTiming] = Field(default=[], max_length=MOST_TIMINGS)

    @property
    def measured(self) -> Estimate | None:
        """The bound."""
        return self.fit.bound_nats
