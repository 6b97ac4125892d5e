"""The reverse Kullback-Leibler divergence: an approximation fitted to a density known up to a constant."""

from __future__ import annotations

import torch
from torch import Tensor

from flowbench.data.rows import Rows
from flowbench.engines import Engine
from flowbench.flows.core.flow import by_autograd
from flowbench.training.objective import SecondsOf
from flowbench.variational.climbing import ByDraws, Warmed, first_not_finite
from flowbench.variational.posterior import Posterior
from flowbench.variational.targets.target import Target
from flowbench.variational.timing import time_posterior_seconds

ROWS = 2000
"""That are evaluated at a time."""

EXACT = 100_000
"""Exact draws of a target, of which the forward divergence is estimated: as many as there are of the approximation."""

COLDEST = 0.01
"""The weight of the target's log-density that annealing begins with."""


class TargetModel(Warmed):
    """p(z) = p̃(z) / Z, and q(z), which descends on KL(q ‖ p) − log Z = E_q[log q(z) − log p̃(z)].

    q's draws are z = f⁻¹(u) with u standard normal, the gradient that of f⁻¹ (Rezende and Mohamed 2015, section 4). In
    the first ``annealing`` steps log p̃ has a weight that grows from 0.01 to 1, as theirs has (eq. 20).
    """

    engine: Engine | None = None

    def __init__(self, target: Target, approximation: Posterior, annealing: int = 0) -> None:
        super().__init__()
        self.target, self.approximation, self._annealing = target, approximation, annealing

    def terms(self, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of standard normal noise (N, D): z (N, D), log p̃(z) and log q(z), both (N,) in nats."""
        z, log_q = self.approximation.draw(self.approximation(noise), noise)
        return z, self.target(z), log_q

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z) (N,) in nats of given points (N, D)."""
        return self.approximation.log_prob(self.approximation(z), z)

    def backpropagate(self, x: Tensor) -> Tensor:
        """The mean of log q(z) − log p̃(z) over as many fresh draws as there are rows x (N, D); see `Model`."""
        weight = self.warm(self._annealing, COLDEST)

        def loss() -> Tensor:
            _, log_p, log_q = self.terms(torch.randn_like(x))
            return (log_q - weight * log_p).mean()

        return by_autograd(self, loss)


def has_exact_draws(target: Target) -> bool:
    """Whether the forward divergence can be estimated: p has exact draws, and log Z is known."""
    return target.log_z is not None and target.draw(1, torch.Generator()) is not None


class ReverseKL(ByDraws):
    """E_q[log p̃(z) − log q(z)], as an objective: a lower bound on log Z, by which KL(q ‖ p) is the least."""

    def __init__(self, model: TargetModel) -> None:
        self.model = model

    @torch.no_grad()
    def value(self, validation: Rows) -> float:
        """The mean bound, by rows (N, D) of noise."""
        terms = (self.model.terms(noise) for noise in validation.split(ROWS))
        return float(torch.cat([(log_p - log_q).cpu().double() for _, log_p, log_q in terms]).mean())

    @torch.no_grad()
    def culprit(self, rows: Tensor) -> str | None:
        """The approximation or the target."""
        z, log_p, log_q = self.model.terms(torch.randn_like(rows))
        parts = {"a draw": z, "the density of a draw": log_q, "the target": log_p}
        return first_not_finite(parts)

    @torch.no_grad()
    def closing_seconds(self, test: Rows, seconds_of: SecondsOf) -> float:
        """The draws of test rows, the densities of exact ones, and times."""
        model, noise = self.model, test[:ROWS]
        z, *_ = model.terms(noise)
        draws = seconds_of(lambda: model.terms(noise)) * len(test) / len(noise)
        densities = 0.0
        if has_exact_draws(model.target):
            densities = seconds_of(lambda: (model.log_prob(z), model.target(z))) * EXACT / len(noise)
        return draws + densities + time_posterior_seconds(model.approximation, test, seconds_of)
