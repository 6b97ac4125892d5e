"""Gaussians whose parameters an encoder gives: posteriors themselves, or what a flow begins with."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from flowbench.transforms import standard_normal


class Gaussian(Protocol):
    """A density of z (N, K), of K ``latents``, with ``parameters`` numbers a row."""

    latents: int
    parameters: int

    def draw(self, theta: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Of standard normal noise (N, K): z (N, K), and its log-density (N,)."""
        ...

    def log_prob(self, theta: Tensor, z: Tensor) -> Tensor:
        """The log-density (N,) of z (N, K)."""
        ...


class Standard:
    """z = ε: what a flow begins with that shifts and scales by itself."""

    parameters = 0

    def __init__(self, latents: int) -> None:
        self.latents = latents

    def draw(self, theta: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """See `Gaussian.draw`."""
        return noise, self.log_prob(theta, noise)

    def log_prob(self, theta: Tensor, z: Tensor) -> Tensor:
        """See `Gaussian.log_prob`."""
        return standard_normal(z).sum(1)


class Diagonal:
    """z = μ + σ ⊙ ε, from θ = (μ, log σ) (Kingma and Welling 2014; Kingma et al. 2016, Algorithm 1, line 2)."""

    def __init__(self, latents: int) -> None:
        self.latents = latents
        self.parameters = 2 * latents

    def draw(self, theta: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """See `Gaussian.draw`."""
        mean, log_scale = theta.chunk(2, 1)
        return mean + log_scale.exp() * noise, (standard_normal(noise) - log_scale).sum(1)

    def log_prob(self, theta: Tensor, z: Tensor) -> Tensor:
        """See `Gaussian.log_prob`."""
        mean, log_scale = theta.chunk(2, 1)
        return (standard_normal((z - mean) * (-log_scale).exp()) - log_scale).sum(1)


class Full:
    """z = μ + L ε with L lower triangular, from θ = (μ, log of L's diagonal, L below it row by row)."""

    def __init__(self, latents: int) -> None:
        self.latents = latents
        self.parameters = 2 * latents + latents * (latents - 1) // 2

    def draw(self, theta: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """See `Gaussian.draw`."""
        mean, log_diagonal, factor = self._parts(theta)
        z = mean + (factor @ noise[:, :, None])[:, :, 0]
        return z, (standard_normal(noise) - log_diagonal).sum(1)

    def log_prob(self, theta: Tensor, z: Tensor) -> Tensor:
        """See `Gaussian.log_prob`."""
        mean, log_diagonal, factor = self._parts(theta)
        noise = torch.linalg.solve_triangular(factor, (z - mean)[:, :, None], upper=False)[:, :, 0]
        return (standard_normal(noise) - log_diagonal).sum(1)

    def _parts(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """μ (N, K), log of L's diagonal (N, K), L (N, K, K)."""
        size = self.latents
        mean, log_diagonal, below = theta.split([size, size, self.parameters - 2 * size], 1)
        rows, columns = torch.tril_indices(size, size, -1, device=theta.device)
        factor = torch.diag_embed(log_diagonal.exp()).index_put(
            (torch.arange(len(theta), device=theta.device)[:, None], rows, columns), below
        )
        return mean, log_diagonal, factor
