"""Batch normalisation in one compiled call each way; torch needs a dozen, and its variance is slow.

Arrays are columns first, (D, N).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from flowbench.transforms.compiled.vectors import jit


def _forward(x, log_gamma, beta, epsilon, u, normal, inverse_deviation):
    rows = x.shape[1]
    log_det = 0.0
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
        log_det += log_gamma[column] - 0.5 * math.log(variance)
    return log_det


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


def forward(x: Tensor, log_gamma: Tensor, beta: Tensor, epsilon: float) -> tuple[Tensor, Tensor, list[Tensor]]:
    """u (D, N), log_det of a row, and what the gradient needs, from x (D, N)."""
    u, normal, inverse_deviation = torch.empty_like(x), torch.empty_like(x), torch.empty_like(beta)
    parameters = log_gamma.detach().numpy(), beta.detach().numpy()
    log_det = _forward(x.numpy(), *parameters, epsilon, u.numpy(), normal.numpy(), inverse_deviation.numpy())
    return u, x.new_tensor(log_det), [normal, inverse_deviation]


def backward(
    saved: list[Tensor], log_gamma: Tensor, grad_u: Tensor, grad_log_det: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x (D, N), log γ and β (D,); ``grad_log_det`` () is the sum over rows."""
    grad_x, grad_log_gamma, grad_beta = torch.empty_like(grad_u), torch.empty_like(log_gamma), torch.empty_like(log_gamma)
    out = grad_x.numpy(), grad_log_gamma.numpy(), grad_beta.numpy()
    known = (tensor.detach().numpy() for tensor in (*saved, log_gamma, grad_u))
    _backward(*known, grad_log_det.item(), *out)
    return grad_x, grad_log_gamma, grad_beta
