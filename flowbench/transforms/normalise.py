"""Batch normalisation and permutation of columns, as transforms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

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
        if not self.training:
            log_scale = self.log_gamma - 0.5 * (self.variance + self.EPSILON).log()
            return (x - self.mean) * log_scale.exp() + self.beta, log_scale.sum().expand(len(x))
        if torch._C._are_functorch_transforms_active():  # they see through plain torch only
            u, log_det, *_ = _normalise(x, self.log_gamma, self.beta)
            return u, log_det.expand(len(x))
        u, log_det = _Normalise.apply(x, self.log_gamma, self.beta)  # type: ignore[no-untyped-call]
        return u, log_det.expand(len(x))

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


def _normalise(x: Tensor, log_gamma: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
    """u (N, D), log_det (), x normalised (N, D), 1/√(v + ε) (D,), γ (D,), by the batch's own statistics."""
    variance, mean = torch.var_mean(x, dim=0, correction=0)
    inverse_deviation = (variance + BatchNorm.EPSILON).rsqrt()
    normal = (x - mean) * inverse_deviation
    gamma = log_gamma.exp()
    log_det = (log_gamma + inverse_deviation.log()).sum()
    return torch.addcmul(beta, normal, gamma), log_det, normal, inverse_deviation, gamma


class _Normalise(Function):
    """Written out, because a small flow would spend a fifth of its time in autograd's bookkeeping of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, log_gamma: Tensor, beta: Tensor) -> Pair:
        u, log_det, *saved = _normalise(x, log_gamma, beta)
        ctx.save_for_backward(*saved)
        return u, log_det

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_u: Tensor, grad_log_det: Tensor) -> tuple[Tensor, ...]:
        normal, inverse_deviation, gamma = ctx.saved_tensors
        grad_beta = grad_u.sum(0)
        slope = (grad_u * normal).sum(0)
        # x̄ = γ/s·(ū − mean(ū) − x̂·mean(ū·x̂)), with s the deviation; and ∂(−log s)/∂x = −x̂/(N·s) for log_det
        scale = inverse_deviation * gamma
        along = (inverse_deviation * grad_log_det).addcmul_(scale, slope).div_(-len(normal))
        grad_x = torch.addcmul((grad_u - grad_beta / len(normal)).mul_(scale), normal, along)
        return grad_x, torch.addcmul(grad_log_det, slope, gamma), grad_beta


class Permutation(Transform):
    """u = x with its columns in another order; log_det = 0."""

    order: Tensor
    back: Tensor

    def __init__(self, order: Tensor) -> None:
        super().__init__()
        # saved with the weights: an order is part of the model
        self.register_buffer("order", order)
        self.register_buffer("back", order.argsort(), persistent=False)

    @classmethod
    def reverse(cls, dim: int) -> Permutation:
        """Last column first: what MAF puts between its transforms."""
        return cls(torch.arange(dim - 1, -1, -1))

    def forward(self, x: Tensor) -> Pair:
        """x (N, D) to (x in the new order, 0)."""
        return x.t().index_select(0, self.order).t(), x.new_zeros(len(x))

    def inverse(self, u: Tensor) -> Pair:
        """Undo forward."""
        return u.t().index_select(0, self.back).t(), u.new_zeros(len(u))

    def _load_from_state_dict(self, *state: Any) -> None:
        super()._load_from_state_dict(*state)
        self.back.copy_(self.order.argsort())
