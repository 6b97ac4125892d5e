"""A small masked autoregressive transform whole in one compiled call: its density, and the gradient of that.

The arithmetic is the exact half that masks leave: each product stops where the mask does. Arguments as in
`substitution`.
"""

from __future__ import annotations

import numpy as np

from flowbench.engines.numba.substitution import gather, preset, weights_between
from flowbench.engines.numba.vectors import (
    activate,
    add_product,
    affine_map,
    jit,
    outer,
    pull_affine,
    slope,
    total,
)
from flowbench.tuning import TILE


@jit
def forward(x, network, affine, values, image, log_det):
    """The image (u, log-precisions), each (D, N), and log_det (N,) of x (D, N); all units' values are kept."""
    visible, is_tanh = network[3], network[4]
    u, precision = image
    last, dim = len(visible) - 1, len(x)
    for lo in range(0, x.shape[1], TILE):
        hi, end = min(lo + TILE, x.shape[1]), min(lo + TILE, values.shape[1])
        preset(values, network, lo, end)
        for column in range(dim):
            known = values[column, lo:end]
            known[:] = 0
            known[: hi - lo] = x[column, lo:hi]
        for level in range(1, last + 1):
            for step in range(dim):
                units = visible[level, step], visible[level, step + 1]
                seen = visible[level - 1, step + (level < last)]  # outputs see only columns before their own
                gather(values, network, units, (visible[level - 1, 0], seen), lo, end)
            if level < last:
                for unit in range(visible[level, 0], visible[level, dim]):
                    activate(values[unit, lo:end], is_tanh)
        sums = log_det[lo:hi]
        sums[:] = 0
        for column in range(dim):
            outputs = visible[last, column]
            shift, raw = values[outputs, lo:hi], values[outputs + 1, lo:hi]
            p = precision[column, lo:hi]
            affine_map(x[column, lo:hi], shift, raw, affine, u[column, lo:hi], p)
            for n in range(len(p)):
                sums[n] += p[n]


@jit
def backward(network, affine, values, image, gradients, grad_x, grad_flat):
    """``forward``'s gradients: grad_x (D, N) and grad_flat, which is zero before; every matrix is in one piece."""
    visible, is_tanh = network[3], network[4]
    u, precision = image
    grad_u, grad_log_det = gradients
    last, dim, biases = len(visible) - 1, len(grad_x), network[2]
    cotangents = np.zeros_like(values)
    for column in range(dim):
        outputs = visible[last, column]
        known = (u[column], precision[column]), (grad_u[column], grad_log_det)
        pull_affine(*known, affine, grad_x[column], cotangents[outputs], cotangents[outputs + 1])
    own_gradient = (grad_flat, network[1])
    for level in range(last, 0, -1):
        top, bottom = visible[level, 0], visible[level - 1, 0]
        for unit in range(top, visible[level, dim]):
            grad_flat[biases[unit]] = total(cotangents[unit])
        whole = weights_between(network, top, visible[level, dim], bottom, visible[level - 1, dim])
        transposed = np.ascontiguousarray(whole.T)
        for step in range(dim):
            first, end = visible[level, step], visible[level, step + 1]
            known = visible[level - 1, step + (level < last)]
            if first < end and bottom < known:
                gradient = weights_between(own_gradient, first, end, bottom, known)
                outer(gradient, cotangents[first:end], values[bottom:known])
            units, unit_end = visible[level - 1, step], visible[level - 1, step + 1]
            later = visible[level, step + (level == last)]
            rows = transposed[units - bottom : unit_end - bottom, later - top :]
            add_product(cotangents, units, rows, cotangents, later, 0, cotangents.shape[1])
        if level > 1:  # in one loop, because a short one costs what it checks first
            slope(cotangents[bottom:top].reshape(-1), values[bottom:top].reshape(-1), is_tanh)
    for column in range(dim):
        out, found = grad_x[column], cotangents[column]
        for n in range(len(out)):
            out[n] += found[n]
