"""Batch normalisation in one compiled call each way; torch needs a dozen, and its variance is slow.

Arrays are columns first, (D, N).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowbench.transforms.compiled.vectors import jit


def _forward(x, log_gamma, beta, epsilon, u, normal, inverse_deviation, log_det):
    rows = x.shape[1]
    total_log_det = 0.0
    for column in range(len(x)):
        values, out, image = x[column], normal[column], u[column]
        total = 0.0
        for n in range(rows):
            total += values[n]
        mean = x.dtype.type(total / rows)
        squares = 0.0
        for n in range(rows):
            out[n] = values[n] - mean
            squares += out[n] * out[n]
        variance = squares / rows + epsilon
        inverse = x.dtype.type(1 / math.sqrt(variance))
        gamma, shift = x.dtype.type(math.exp(log_gamma[column])), beta[column]
        for n in range(rows):
            out[n] *= inverse
            image[n] = out[n] * gamma + shift
        inverse_deviation[column] = inverse
        total_log_det += log_gamma[column] - 0.5 * math.log(variance)
    log_det[0] = total_log_det


_forward = jit(_forward, reorder_sums=True)


def _backward(normal, inverse_deviation, log_gamma, grad_u, grad_log_det, grad_x, grad_log_gamma, grad_beta):
    rows = normal.shape[1]
    for column in range(len(normal)):
        values, above, out = normal[column], grad_u[column], grad_x[column]
        total, slope = 0.0, 0.0
        for n in range(rows):
            total += above[n]
            slope += above[n] * values[n]
        gamma, inverse = math.exp(log_gamma[column]), inverse_deviation[column]
        scale = normal.dtype.type(inverse * gamma)
        mean = normal.dtype.type(total / rows)
        along = normal.dtype.type(inverse * (gamma * slope + grad_log_det) / rows)
        for n in range(rows):
            out[n] = scale * (above[n] - mean) - values[n] * along
        grad_beta[column] = total
        grad_log_gamma[column] = slope * gamma + grad_log_det


_backward = jit(_backward, reorder_sums=True)


@jit
def _shift_and_scale(x, before, after, log_gamma, variance, epsilon, sign, out, log_scale):
    for column in range(len(x)):
        values, image = x[column], out[column]
        log_scale[column] = sign * (log_gamma[column] - 0.5 * math.log(variance[column] + epsilon))
        scale = x.dtype.type(math.exp(log_scale[column]))
        shift, base = before[column], after[column]
        for n in range(len(values)):
            image[n] = (values[n] - shift) * scale + base


def shift_and_scale(
    x: Tensor, before: Tensor, after: Tensor, log_gamma: Tensor, variance: Tensor, epsilon: float, sign: int
) -> tuple[Tensor, Tensor]:
    """As ``TorchNormalise.shift_and_scale``."""
    out, log_scale = torch.empty_like(x), torch.empty_like(variance)
    known = (tensor.numpy() for tensor in (x, before, after, log_gamma, variance))
    _shift_and_scale(*known, epsilon, sign, out.numpy(), log_scale.numpy())
    return out, log_scale


def forward(x: Tensor, log_gamma: Tensor, beta: Tensor, epsilon: float) -> tuple[Tensor, Tensor, list[Tensor]]:
    """u (D, N), log_det of a row, and what the gradient needs, from x (D, N)."""
    u, normal, inverse_deviation, log_det = (torch.empty_like(t) for t in (x, x, beta, beta[:1]))
    out = u.numpy(), normal.numpy(), inverse_deviation.numpy(), log_det.numpy()
    _forward(x.numpy(), log_gamma.numpy(), beta.numpy(), epsilon, *out)
    return u, log_det, [normal, inverse_deviation]


def backward(
    saved: list[Tensor],
    log_gamma: Tensor,
    grad_u: Tensor,
    grad_log_det: Tensor,
    grad_log_gamma: Tensor,
    grad_beta: Tensor,
) -> Tensor:
    """As ``TorchNormalise.backward``."""
    grad_x = torch.empty_like(grad_u)
    out = grad_x.numpy(), grad_log_gamma.numpy(), grad_beta.numpy()
    normal, inverse_deviation = (tensor.numpy() for tensor in saved)
    _backward(normal, inverse_deviation, log_gamma.numpy(), grad_u.numpy(), grad_log_det.item(), *out)
    return grad_x
