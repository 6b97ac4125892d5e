"""Batch normalisation and permutation of columns, as transforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flowbench.data.rows import Rows
from flowbench.transforms import compiled
from flowbench.transforms.transform import CALIBRATION_ROWS, Pair, Pull, WrittenTransform


class BatchNorm(WrittenTransform):
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

    def tensors(self) -> list[Tensor]:
        """log γ and β."""
        return [self.log_gamma, self.beta]

    def forward_vjp(self, x: Tensor) -> tuple[Tensor, Tensor, Pull]:
        """By the batch's statistics in training, by the training set's in evaluation."""
        log_gamma, beta = self.log_gamma.detach(), self.beta.detach()
        if not self.training:
            return self._by_statistics(x, self.mean, beta, 1)
        kernels = compiled.of(x)
        way: Any = kernels.normalise if kernels else TorchNormalise
        u, log_det, saved = way.forward(x, log_gamma, beta, self.EPSILON)

        def pull(grad_u: Tensor, grad_log_det: Tensor, out: Sequence[Tensor]) -> Tensor:
            return way.backward(saved, log_gamma, grad_u, grad_log_det.sum(), *out)

        return u, log_det.expand(x.shape[1]), pull

    def inverse_vjp(self, u: Tensor) -> tuple[Tensor, Tensor, Pull]:
        """By the training set's statistics."""
        x, log_det, product = self._by_statistics(u, self.beta.detach(), self.mean, -1)

        def pull(grad_x: Tensor, grad_log_det: Tensor, out: Sequence[Tensor]) -> Tensor:
            grad_u = product(grad_x, grad_log_det, out)
            out[0].neg_()
            out[1].copy_(grad_u.sum(1)).neg_()
            return grad_u

        return x, log_det, pull

    def _by_statistics(self, x: Tensor, before: Tensor, after: Tensor, sign: int) -> tuple[Tensor, Tensor, Pull]:
        """(x − before)·exp(s) + after, with s = ±(log γ − ½ log(v + ε)); the product gives gradients of s and after."""
        kernels = compiled.of(x)
        way: Any = kernels.normalise if kernels else TorchNormalise
        out, log_scale = way.shift_and_scale(
            x, before, after, self.log_gamma.detach(), self.variance, self.EPSILON, sign
        )

        def pull(grad_u: Tensor, grad_log_det: Tensor, out: Sequence[Tensor]) -> Tensor:
            scale = log_scale.exp()[:, None]
            scaled = (x - before[:, None]).mul_(scale)
            torch.add((grad_u * scaled).sum(1), grad_log_det.sum(), out=out[0])
            torch.sum(grad_u, 1, out=out[1])
            return grad_u * scale

        return out, log_scale.sum().expand(x.shape[1]), pull

    def plain_forward(self, x: Tensor) -> Pair:
        """As ``forward``."""
        mean, variance = self.mean, self.variance
        if self.training:
            variance, mean = torch.var_mean(x, dim=0, correction=0)
        log_scale = self.log_gamma - 0.5 * (variance + self.EPSILON).log()
        return (x - mean) * log_scale.exp() + self.beta, log_scale.sum().expand(len(x))

    @torch.no_grad()
    def calibrate(self, x: Rows) -> None:
        """Mean and biased variance of the whole training set x (N, D), summed in float64."""
        precise = torch.float32 if x.device.type == "mps" else torch.float64  # MPS has no float64
        total = torch.zeros_like(self.mean, dtype=precise)
        for rows in x.split(CALIBRATION_ROWS):
            total += rows.sum(0, dtype=precise)
        mean = total / len(x)
        squares = torch.zeros_like(mean)
        for rows in x.split(CALIBRATION_ROWS):  # a whole copy in float64 would double the memory
            squares += (rows.to(precise) - mean).square().sum(0)
        self.mean.copy_(mean)
        self.variance.copy_(squares / len(x))


class TorchNormalise:
    """Normalisation by the batch's own statistics and its gradient, or by given ones, in torch's calls."""

    @staticmethod
    def shift_and_scale(
        x: Tensor, before: Tensor, after: Tensor, log_gamma: Tensor, variance: Tensor, epsilon: float, sign: int
    ) -> tuple[Tensor, Tensor]:
        """(x − before)·exp(s) + after and s = ±(log γ − ½ log(v + ε)), for x (D, N) and a sign of 1 or −1."""
        log_scale = sign * (log_gamma - 0.5 * (variance + epsilon).log())
        return (x - before[:, None]).mul_(log_scale.exp()[:, None]).add_(after[:, None]), log_scale

    @staticmethod
    def forward(x: Tensor, log_gamma: Tensor, beta: Tensor, epsilon: float) -> tuple[Tensor, Tensor, list[Tensor]]:
        """u (D, N), log_det () of a row, and what the gradient needs, from x (D, N)."""
        variance, mean = torch.var_mean(x, dim=1, correction=0)
        inverse_deviation = (variance + epsilon).rsqrt()
        normal = (x - mean[:, None]) * inverse_deviation[:, None]
        log_det = (log_gamma + inverse_deviation.log()).sum()
        return torch.addcmul(beta[:, None], normal, log_gamma.exp()[:, None]), log_det, [normal, inverse_deviation]

    @staticmethod
    def backward(
        saved: list[Tensor],
        log_gamma: Tensor,
        grad_u: Tensor,
        grad_log_det: Tensor,
        grad_log_gamma: Tensor,
        grad_beta: Tensor,
    ) -> Tensor:
        """The gradient of x (D, N); those of log γ and β (D,) are written. ``grad_log_det`` () is the sum over rows."""
        normal, inverse_deviation = saved
        rows, gamma = normal.shape[1], log_gamma.exp()
        torch.sum(grad_u, 1, out=grad_beta)
        slope = (grad_u * normal).sum(1)
        # x̄ = γ/s·(ū − mean(ū) − x̂·mean(ū·x̂)), with s the deviation; and ∂(−log s)/∂x = −x̂/(N·s) for log_det
        along = inverse_deviation * (gamma * slope + grad_log_det) / rows
        scale = inverse_deviation * gamma
        torch.add(slope * gamma, grad_log_det, out=grad_log_gamma)
        return (grad_u - (grad_beta / rows)[:, None]).mul_(scale[:, None]).addcmul_(normal, along[:, None], value=-1)


class Permutation(WrittenTransform):
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

    def tensors(self) -> list[Tensor]:
        """None."""
        return []

    def forward_vjp(self, x: Tensor) -> tuple[Tensor, Tensor, Pull]:
        """A gather of columns, whose gradient is the gather back."""
        return _gather(x, self.order, self.back)

    def inverse_vjp(self, u: Tensor) -> tuple[Tensor, Tensor, Pull]:
        """Undo forward."""
        return _gather(u, self.back, self.order)

    def plain_forward(self, x: Tensor) -> Pair:
        """x (N, D) to (x in the new order, 0)."""
        return x[:, self.order], x.new_zeros(len(x))

    def _load_from_state_dict(self, *state: Any) -> None:
        super()._load_from_state_dict(*state)
        self.back.copy_(self.order.argsort())


def _gather(x: Tensor, order: Tensor, back: Tensor) -> tuple[Tensor, Tensor, Pull]:
    return (
        x.index_select(0, order),
        x.new_zeros(()).expand(x.shape[1]),
        lambda grad_u, *_: grad_u.index_select(0, back),
    )
