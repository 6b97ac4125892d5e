"""Batch normalisation as a transform."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowbench.transforms.plan import BatchNormPlan, Statistics
from flowbench.transforms.transform import Pair, WithStatistics


class BatchNorm(WithStatistics):
    """u = (x − m)/√(v + ε)·exp(log γ) + β; log_det = Σ log γ − ½ log(v + ε) (MAF paper, §3.2 and supplement B).

    In training m and v (biased) are the batch's. In evaluation they are those of the whole training set, as
    ``set_statistics`` took them: never a running average, never the test batch's. The inverse always uses those.
    """

    mean: Tensor
    variance: Tensor
    EPSILON = 1e-5
    reach = "own"

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.log_gamma = nn.Parameter(torch.zeros(dim))
        self.beta = nn.Parameter(torch.zeros(dim))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("variance", torch.ones(dim))
        self._plans = tuple(BatchNormPlan(self.EPSILON, by_batch) for by_batch in (False, True))

    def forward(self, x: Tensor) -> Pair:
        """x (N, D) to (u, log_det), by the batch's statistics in training and by the training set's in evaluation."""
        mean, variance = self.mean, self.variance
        if self.training:
            variance, mean = torch.var_mean(x, dim=0, correction=0)
        log_scale = self.log_gamma - 0.5 * (variance + self.EPSILON).log()
        return (x - mean) * log_scale.exp() + self.beta, log_scale.sum().expand(len(x))

    def by_column(self, x: Tensor) -> Pair:
        """x (N, D) to (u, log|∂u_i/∂x_i|), in evaluation: in training, rows depend on each other."""
        log_scale = self.log_gamma - 0.5 * (self.variance + self.EPSILON).log()
        return (x - self.mean) * log_scale.exp() + self.beta, log_scale.expand_as(x)

    def inverse(self, u: Tensor) -> Pair:
        """u (N, D) to (x, log_det), by the training set's statistics."""
        log_scale = 0.5 * (self.variance + self.EPSILON).log() - self.log_gamma
        return (u - self.beta) * log_scale.exp() + self.mean, log_scale.sum().expand(len(u))

    @torch.no_grad()
    def set_statistics(self, mean: Tensor, variance: Tensor) -> None:
        """Take the mean and the biased variance (D,) of all training rows."""
        self.mean.copy_(mean)
        self.variance.copy_(variance)

    @property
    def plan(self) -> BatchNormPlan:
        """Which statistics are used."""
        return self._plans[self.training]

    def weights(self) -> list[Tensor]:
        """log γ and β."""
        return [self.log_gamma, self.beta]

    def constants(self) -> Statistics:
        """The training set's mean and variance."""
        return Statistics(self.mean, self.variance)
