"""Batch normalisation in one compiled call each way; torch needs a dozen, and its variance is slow.

Arrays are columns first, (D, N).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from flowbench.engines.eager.batch_norm import pull_batch_norm_by
from flowbench.engines.interface import Moved, Stage
from flowbench.engines.numba.vectors import jit


def _forward(x, weights, epsilon, u, saved, log_det):
    rows = x.shape[1]
    log_gamma, beta = weights
    normal, inverse_deviation = saved
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


def _backward(saved, log_gamma, grad_u, grad_log_det, grad_x, out_weights):
    normal, inverse_deviation = saved
    grad_log_gamma, grad_beta = out_weights
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
def _shift_and_scale(x, shifts, scales, sign, out, log_scale):
    before, after = shifts
    log_gamma, variance, epsilon = scales
    for column in range(len(x)):
        values, image = x[column], out[column]
        log_scale[column] = sign * (log_gamma[column] - 0.5 * math.log(variance[column] + epsilon))
        scale = x.dtype.type(math.exp(log_scale[column]))
        shift, base = before[column], after[column]
        for n in range(len(values)):
            image[n] = (values[n] - shift) * scale + base


def batch_norm(x: Tensor, stage: Stage, epsilon: float) -> Moved:
    """As `eager.batch_norm.batch_norm`."""
    log_gamma, beta = (weight.detach() for weight in stage.weights)
    u, normal, inverse_deviation, log_det = (torch.empty_like(t) for t in (x, x, beta, beta[:1]))
    saved = normal.numpy(), inverse_deviation.numpy()
    _forward(x.numpy(), (log_gamma.numpy(), beta.numpy()), epsilon, u.numpy(), saved, log_det.numpy())

    def pull(grad_u: Tensor, grad_log_det: Tensor, out: Sequence[Tensor]) -> Tensor:
        grad_x = torch.empty_like(grad_u)
        written = out[0].numpy(), out[1].numpy()
        _backward(saved, log_gamma.numpy(), grad_u.numpy(), grad_log_det.sum().item(), grad_x.numpy(), written)
        return grad_x

    return u, log_det.expand(x.shape[1]), pull


def batch_norm_by(x: Tensor, before: Tensor, after: Tensor, sign: int, stage: Stage, epsilon: float) -> Moved:
    """As `eager.batch_norm.batch_norm_by`."""
    out, log_scale = torch.empty_like(x), torch.empty_like(before)
    scales = stage.weights[0].detach().numpy(), stage.constants.variance.numpy(), epsilon
    _shift_and_scale(x.numpy(), (before.numpy(), after.numpy()), scales, sign, out.numpy(), log_scale.numpy())
    return out, log_scale.sum().expand(x.shape[1]), pull_batch_norm_by(x, before, log_scale)
