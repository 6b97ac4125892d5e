"""Batch normalisation and permutation of columns, as transforms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowbench.transforms.transform import CALIBRATION_ROWS, Pair, Transform


class BatchNorm(Transform):
    """u = (x − m)/√(v + ε)·exp(log γ) + β; log_det = Σ log γ − ½ log(v + ε) (MAF paper, §3.2 and supplement B).

    In training m and v (biased) are the batch's. In evaluation they are those of the whole training set, as
    ``calibrate`` took them: never a running average, never the test batch's. The inverse always uses those.
    """

    calibrated = True
    mean: Tensor
    variance: Tensor
    EPSILON = 1e-5

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.log_gamma = nn.Parameter(torch.zeros(dim))
        self.beta = nn.Parameter(torch.zeros(dim))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("variance", torch.ones(dim))

    def forward(self, x: Tensor) -> Pair:
        """x (N, D) to (u, log_det); log_det is the same for every row."""
        mean, variance = self.mean, self.variance
        if self.training:
            variance, mean = torch.var_mean(x, dim=0, correction=0)
        log_scale = self.log_gamma - 0.5 * (variance + self.EPSILON).log()
        return (x - mean) * log_scale.exp() + self.beta, log_scale.sum().expand(len(x))

    def inverse(self, u: Tensor) -> Pair:
        """u (N, D) to (x, log_det), by the training set's statistics."""
        log_scale = 0.5 * (self.variance + self.EPSILON).log() - self.log_gamma
        return (u - self.beta) * log_scale.exp() + self.mean, log_scale.sum().expand(len(u))

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Mean and biased variance of the whole training set x (N, D), summed in float64."""
        precise = torch.float32 if x.device.type == "mps" else torch.float64  # MPS has no float64
        mean = x.mean(0, dtype=precise)
        squares = torch.zeros_like(mean)
        for rows in x.split(CALIBRATION_ROWS):  # a whole copy in float64 would double the memory
            squares += (rows.to(precise) - mean).square().sum(0)
        self.mean.copy_(mean)
        self.variance.copy_(squares / len(x))


class Permutation(Transform):
    """u = x with its columns in another order; log_det = 0."""

    order: Tensor

    def __init__(self, order: Tensor) -> None:
        super().__init__()
        # saved with the weights: an order is part of the model
        self.register_buffer("order", order)

    @classmethod
    def reverse(cls, dim: int) -> Permutation:
        """Last column first: what MAF puts between its transforms."""
        return cls(torch.arange(dim - 1, -1, -1))

    def forward(self, x: Tensor) -> Pair:
        """x (N, D) to (x in the new order, 0)."""
        return x[:, self.order], x.new_zeros(len(x))

    def inverse(self, u: Tensor) -> Pair:
        """Undo forward."""
        return u[:, self.order.argsort()], u.new_zeros(len(u))
