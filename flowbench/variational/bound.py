"""The evidence lower bound: a latent variable model and its posterior, trained together."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from flowbench.data.rows import Rows
from flowbench.engines import Engine
from flowbench.flows.core.flow import by_autograd
from flowbench.training.objective import SecondsOf
from flowbench.transforms import standard_normal
from flowbench.variational.climbing import ByDraws, Warmed, first_not_finite
from flowbench.variational.likelihoods import Likelihood
from flowbench.variational.posterior import Posterior
from flowbench.variational.timing import time_posterior_seconds

ROWS = 1000
"""That are evaluated at a time."""

DRAWS = 2000
"""Of z on validation rows at the least: a few rows are drawn for more often."""


class LatentModel(Warmed):
    """p(x, z) = p(x | z) N(z; 0, I), and a posterior q(z | x): both climb E_q[log p(x, z) − log q(z | x)].

    The Kullback-Leibler divergence from the prior counts less in the first ``warmup`` steps, linearly (Bowman et al.
    2016, Sønderby et al. 2016), and of its mean over a batch what is below ``free`` nats a latent costs nothing (free
    bits with the latents as one group: Kingma et al. 2016, eq. 15).
    """

    engine: Engine | None = None

    def __init__(
        self, likelihood: Likelihood, posterior: Posterior, latents: int, warmup: int = 0, free: float = 0.0
    ) -> None:
        super().__init__()
        self.likelihood, self.posterior, self.latents = likelihood, posterior, latents
        self._warmup, self._free = warmup, free * latents

    def terms(self, x: Tensor, encoded: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of rows (N, D), what the encoder says of them, and standard normal noise (N, K): z, and two terms in nats.

        log p(x | z) (N,) and log q(z | x) − log p(z) (N,): the bound is the mean of their difference.
        """
        z, log_posterior = self.posterior.draw(encoded, noise)
        return z, self.likelihood.log_prob(x, z), log_posterior - standard_normal(z).sum(1)

    def backpropagate(self, x: Tensor) -> Tensor:
        """Minus the bound of training rows (N, D), with what is said above of its second term; see `Model`."""
        x = self.likelihood.seen(x)
        weight = self.warm(self._warmup)

        def loss() -> Tensor:
            noise = torch.randn(len(x), self.latents, dtype=x.dtype, device=x.device)
            _, reconstruction, divergence = self.terms(x, self.posterior(x), noise)
            return weight * divergence.mean().clamp(min=self._free) - reconstruction.mean()

        return by_autograd(self, loss)

    @torch.no_grad()
    def draws(self, rows: Rows, samples: int, generator: Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Of some rows at a time z (n, S, K), log p(x | z) and log q(z | x) − log p(z), both (n, S)."""
        for x in rows.split(max(1, ROWS // samples)):
            encoded, found = self.posterior(x), []
            for start in range(0, samples, ROWS):
                count = min(ROWS, samples - start)
                noise = torch.randn(len(x) * count, self.latents, dtype=x.dtype, device=x.device, generator=generator)
                terms = self.terms(x.repeat_interleave(count, 0), encoded.repeat_interleave(count, 0), noise)
                found.append([term.unflatten(0, (len(x), count)) for term in terms])
            z, reconstruction, divergence = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
            yield z, reconstruction, divergence


class VariationalBound(ByDraws):
    """The mean bound of rows, as an objective; ``seed`` is of what is drawn to evaluate it."""

    def __init__(self, model: LatentModel, samples: int, seed: int) -> None:
        self.model, self._samples, self._seed = model, samples, seed

    def value(self, validation: Rows) -> float:
        """The mean bound of rows, by the same noise each time."""
        generator = torch.Generator(validation.device).manual_seed(self._seed)
        samples = max(1, DRAWS // len(validation))
        found = self.model.draws(validation, samples, generator)
        return float(torch.cat([(a - b).cpu().double().mean(1) for _, a, b in found]).mean())

    @torch.no_grad()
    def culprit(self, rows: Tensor) -> str | None:
        """The encoder, the posterior or the likelihood."""
        encoded = self.model.posterior(rows)
        noise = torch.randn(len(rows), self.model.latents, dtype=rows.dtype, device=rows.device)
        z, reconstruction, divergence = self.model.terms(rows, encoded, noise)
        parts = {"the encoder": encoded, "the posterior": divergence, "a latent": z, "the likelihood": reconstruction}
        return first_not_finite(parts)

    def closing_seconds(self, test: Rows, seconds_of: SecondsOf) -> float:
        """The test rows' draws, and times."""
        few = test[: max(1, ROWS // self._samples)]
        generator = torch.Generator(test.device).manual_seed(self._seed)
        each = seconds_of(lambda: list(self.model.draws(few, self._samples, generator)))
        return each * len(test) / len(few) + time_posterior_seconds(self.model.posterior, test, seconds_of)
