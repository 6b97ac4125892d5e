"""Batch normalisation and its gradient, by the batch's own statistics or by given ones, in torch's calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from flowbench.engines.interface import Moved, Stage


def batch_norm(x: Tensor, stage: Stage, epsilon: float) -> Moved:
    """By the statistics of x (D, N) themselves."""
    log_gamma, beta = (weight.detach() for weight in stage.weights)
    variance, mean = torch.var_mean(x, dim=1, correction=0)
    inverse_deviation = (variance + epsilon).rsqrt()
    normal = (x - mean[:, None]) * inverse_deviation[:, None]
    log_det = (log_gamma + inverse_deviation.log()).sum()

    def pull(grad_u: Tensor, grad_log_det: Tensor, out: Sequence[Tensor]) -> Tensor:
        rows, gamma, from_log_det = normal.shape[1], log_gamma.exp(), grad_log_det.sum()
        grad_log_gamma, grad_beta = out
        torch.sum(grad_u, 1, out=grad_beta)
        slope = (grad_u * normal).sum(1)
        # x̄ = γ/s·(ū − mean(ū) − x̂·mean(ū·x̂)), with s the deviation; and ∂(−log s)/∂x = −x̂/(N·s) for log_det
        along = inverse_deviation * (gamma * slope + from_log_det) / rows
        scale = inverse_deviation * gamma
        torch.add(slope * gamma, from_log_det, out=grad_log_gamma)
        centred = (grad_u - (grad_beta / rows)[:, None]).mul_(scale[:, None])
        return centred.addcmul_(normal, along[:, None], value=-1)

    u = torch.addcmul(beta[:, None], normal, log_gamma.exp()[:, None])
    return u, log_det.expand(x.shape[1]), pull


def batch_norm_by(x: Tensor, before: Tensor, after: Tensor, sign: int, stage: Stage, epsilon: float) -> Moved:
    """(x − before)·exp(s) + after, with s = ±(log γ − ½ log(v + ε)); the pull gives gradients of s and after."""
    log_scale = sign * (stage.weights[0].detach() - 0.5 * (stage.constants.variance + epsilon).log())
    out = (x - before[:, None]).mul_(log_scale.exp()[:, None]).add_(after[:, None])
    return out, log_scale.sum().expand(x.shape[1]), pull_batch_norm_by(x, before, log_scale)


def pull_batch_norm_by(x: Tensor, before: Tensor, log_scale: Tensor) -> Callable[..., Tensor]:
    """The pull of ``batch_norm_by``."""

    def pull(grad_u: Tensor, grad_log_det: Tensor, out: Sequence[Tensor]) -> Tensor:
        scale = log_scale.exp()[:, None]
        scaled = (x - before[:, None]).mul_(scale)
        torch.add((grad_u * scaled).sum(1), grad_log_det.sum(), out=out[0])
        torch.sum(grad_u, 1, out=out[1])
        return grad_u * scale

    return pull


def batch_norm_inverse(by: Callable[..., Moved], epsilon: float, stage: Stage, u: Tensor) -> Moved:
    """The inverse, always by the training set's statistics."""
    x, log_det, pull_by = by(u, stage.weights[1].detach(), stage.constants.mean, -1, stage, epsilon)

    def pull(grad_x: Tensor, grad_log_det: Tensor, out: Sequence[Tensor]) -> Tensor:
        grad_u = pull_by(grad_x, grad_log_det, out)
        out[0].neg_()
        out[1].copy_(grad_u.sum(1)).neg_()
        return grad_u

    return x, log_det, pull
