"""A target of which all is known, and fits to it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from flowbench.config import TrainingOptions
from flowbench.training.loop import Fit
from flowbench.variational.gaussians import Gaussian
from flowbench.variational.networks import Same
from flowbench.variational.noise_rows import noise_rows
from flowbench.variational.posterior import Posterior
from flowbench.variational.reverse_kl import ReverseKL, TargetModel
from flowbench.variational.targets.target import Moments, Target


class Correlated(Target):
    """p̃ of N(mean, covariance), so that all is known: log Z, and the least KL(q ‖ p) of a diagonal Gaussian."""

    def __init__(self, covariance: Tensor, mean: float = 1.0) -> None:
        super().__init__("correlated", len(covariance), "a Gaussian", "none")
        self.mean, self.covariance = torch.full((self.dim,), mean).to(covariance), covariance
        self.precision = torch.linalg.inv(covariance)

    def forward(self, z: Tensor) -> Tensor:
        off = z - self.mean.to(z)
        return -0.5 * (off @ self.precision.to(z) * off).sum(-1)

    @property
    def log_z(self) -> float:
        return 0.5 * float(torch.logdet(2 * math.pi * self.covariance))

    @property
    def moments(self) -> Moments:
        zero = torch.zeros(self.dim, dtype=torch.float64)
        return Moments(self.mean.double(), self.covariance.diagonal().sqrt().double(), zero, zero, "closed form")

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        noise = torch.randn(n, self.dim, generator=generator)
        return self.mean.float() + noise @ torch.linalg.cholesky(self.covariance).float().T

    @property
    def least_kl(self) -> float:
        """Of a diagonal Gaussian, whose variances are then 1 / Λ_ii."""
        return 0.5 * float(torch.logdet(self.covariance) + self.precision.diagonal().log().sum())


def correlated(dim: int = 3) -> Correlated:
    factor = torch.randn(dim, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return Correlated(factor @ factor.T + 0.5 * torch.eye(dim, dtype=torch.float64))


def fitted(target: Target, gaussian: Gaussian, steps: int = 600, annealing: int = 0) -> TargetModel:
    """By the loop that runs take."""
    torch.manual_seed(0)
    model = TargetModel(target, Posterior(Same(gaussian.parameters), gaussian, None), annealing)
    rows = noise_rows("correlated", 1, target.dim)
    train, validation = (torch.from_numpy(np.array(part)) for part in (rows.train, rows.validation))
    options = TrainingOptions(batch_size=500, max_steps=steps, learning_rate=2e-2, averaging=0.99, plateau=None)
    Fit(ReverseKL(model), train, validation[:2000], options, 0).run()
    return model


def noise_of(target: Target) -> Tensor:
    return torch.from_numpy(np.array(noise_rows("correlated", 1, target.dim).test[:20_000]))
