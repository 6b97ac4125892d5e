"""The density of mixtures of Gaussians, and its gradient: each one compiled call where torch needs two dozen.

θ (D·3C, N) holds for each column its C logits, then C means, then C log-scales; see `GaussianMixture`. What a kernel
needs for one column and a tile of rows stays in ``work`` (2C + 4, TILE): z and the terms of each component, and of
terms and logits the greatest and the sum.
"""

from __future__ import annotations

import numpy as np

from flowbench.engines.numba.elementary import exp, like
from flowbench.engines.numba.vectors import jit, part, raise_to, row, softmax
from flowbench.transforms.mixture import LARGEST
from flowbench.transforms.univariate import LOG_SQRT_2PI
from flowbench.tuning import TILE


@jit
def add_exponential(total, row, top):
    """Total += exp(row − top)."""
    for n in range(len(total)):
        total[n] += exp(row[n] - top[n])


@jit
def held(log_scale):
    """As θ gives it, or less: see ``LARGEST``."""
    over = log_scale - like(LARGEST, log_scale)
    one = like(1, log_scale)
    return like(LARGEST, log_scale) + over / (one + over) if over > like(0, log_scale) else log_scale


@jit
def slope(log_scale):
    """The derivative of ``held``."""
    one, over = like(1, log_scale), log_scale - like(LARGEST, log_scale)
    return one / ((one + over) * (one + over)) if over > like(0, log_scale) else one


@jit
def term(x, logit, mean, log_scale, z, out):
    """z = (x − m)/s, and the logarithm of w·N(x; m, s), but for what is common to all components."""
    half = like(0.5, x[0])
    for n in range(len(x)):
        z[n] = (x[n] - mean[n]) * exp(-held(log_scale[n]))
    for n in range(len(x)):
        out[n] = logit[n] - held(log_scale[n]) - half * z[n] * z[n]


@jit
def gather(x, theta, column, lo, hi, work):
    """Fill ``work`` for a column and the rows lo..hi−1; the number of components."""
    count, size = len(theta) // len(x) // 3, hi - lo
    first = 3 * count * column
    top, total = work[2 * count, :size], work[2 * count + 1, :size]
    top_logit, total_logit = work[2 * count + 2, :size], work[2 * count + 3, :size]
    for c in range(count):
        logit, mean, log_scale = (
            theta[first + c, lo:hi],
            theta[first + count + c, lo:hi],
            theta[first + 2 * count + c, lo:hi],
        )
        term(x[column, lo:hi], logit, mean, log_scale, work[c, :size], work[count + c, :size])
    top[:] = work[count, :size]
    top_logit[:] = theta[first, lo:hi]
    total[:] = 0
    total_logit[:] = 0
    for c in range(1, count):
        raise_to(top, work[count + c, :size])
        raise_to(top_logit, theta[first + c, lo:hi])
    for c in range(count):
        add_exponential(total, work[count + c, :size], top)
        add_exponential(total_logit, theta[first + c, lo:hi], top_logit)
    return count


@jit
def finish(top, total, top_logit, total_logit, out):
    """The log-density, of what ``gather`` found."""
    constant = like(LOG_SQRT_2PI, top[0])
    for n in range(len(out)):
        out[n] = top[n] - top_logit[n] + np.log(total[n] / total_logit[n]) - constant


@jit
def invert(total, gradient):
    """Total becomes gradient / total."""
    for n in range(len(total)):
        total[n] = gradient[n] / total[n]


@jit
def pull_one(known, sums, log_scale, logit, grad_x, to_logit, to_mean, to_scale):
    """The cotangents of one component's parameters, and what it adds to that of x."""
    z, own = known
    top, share_of, top_logit, weight_of = sums
    one = like(1, z[0])
    for n in range(len(z)):
        share = exp(own[n] - top[n]) * share_of[n]
        to_logit[n] = share - exp(logit[n] - top_logit[n]) * weight_of[n]
        to_scale[n] = share * (z[n] * z[n] - one) * slope(log_scale[n])
        to_mean[n] = share * z[n]
    for n in range(len(z)):
        to_mean[n] = to_mean[n] * exp(-held(log_scale[n]))
        grad_x[n] -= to_mean[n]


@jit
def density(x, theta, columns, found):
    """The log-densities (D, N) of x (D, N), of the columns from columns[0] to before columns[1]."""
    count = len(theta) // len(x) // 3
    work = np.empty((2 * count + 4, TILE), x.dtype)
    for column in range(columns[0], columns[1]):
        for lo in range(0, x.shape[1], TILE):
            hi = min(lo + TILE, x.shape[1])
            size = hi - lo
            gather(x, theta, column, lo, hi, work)
            sums = work[2 * count, :size], work[2 * count + 1, :size]
            logits = work[2 * count + 2, :size], work[2 * count + 3, :size]
            finish(sums[0], sums[1], logits[0], logits[1], found[column, lo:hi])


@jit
def pull_density(x, theta, gradient, columns, grad_x, grad_theta):
    """The cotangents of x (D, N) and θ from that of the log-density (N,), of the columns from … to before …."""
    count = len(theta) // len(x) // 3
    work = np.empty((2 * count + 4, TILE), x.dtype)
    for column in range(columns[0], columns[1]):
        first = 3 * count * column
        for lo in range(0, x.shape[1], TILE):
            hi = min(lo + TILE, x.shape[1])
            size = hi - lo
            gather(x, theta, column, lo, hi, work)
            sums = (
                work[2 * count, :size],
                work[2 * count + 1, :size],
                work[2 * count + 2, :size],
                work[2 * count + 3, :size],
            )
            invert(sums[1], gradient[lo:hi])
            invert(sums[3], gradient[lo:hi])
            grad_x[column, lo:hi] = 0
            for c in range(count):
                pull_one(
                    (work[c, :size], work[count + c, :size]),
                    sums,
                    theta[first + 2 * count + c, lo:hi],
                    theta[first + c, lo:hi],
                    grad_x[column, lo:hi],
                    grad_theta[first + c, lo:hi],
                    grad_theta[first + count + c, lo:hi],
                    grad_theta[first + 2 * count + c, lo:hi],
                )


@jit
def draw_rows(normal, uniform, theta, x, work):
    """A draw x (n,) of one column: a component by the uniform number, and of it one by the normal, given 3C rows θ."""
    count, size = theta[2] // 3, len(x)
    weights, chosen, passed = (work, 0, count, 0, size), work[count, :size], work[count + 1, :size]
    softmax(part(theta, 0, count), weights, passed)
    zero, one = like(0, x[0]), like(1, x[0])
    chosen[:] = 0
    passed[:] = 0
    for c in range(count - 1):  # the last is what remains
        own = row(weights, c)
        for n in range(size):
            passed[n] += own[n]
            chosen[n] += one if passed[n] <= uniform[n] else zero
    matrix, first, _, lo, _ = theta
    for n in range(size):
        component = int(chosen[n])
        x[n] = matrix[first + count + component, lo + n]
        passed[n] = matrix[first + 2 * count + component, lo + n]
    for n in range(size):
        x[n] += exp(held(passed[n])) * normal[n]
