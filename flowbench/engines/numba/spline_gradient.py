"""The gradient of rational-quadratic splines: one compiled call where torch needs a hundred.

θ and ``work`` are as in `spline`. Of the bin that a number lies in, u and its log-slope depend on where it starts and
on its size, both ways, and on the slopes at its ends; these on the shares of all bins.
"""

from __future__ import annotations

from flowbench.engines.numba.elementary import like, sigmoid
from flowbench.engines.numba.spline import SPARE, locate, quotient, scale, scratch, share_of, shares_in
from flowbench.engines.numba.vectors import jit, part, row
from flowbench.transforms.spline import SLOPE_OF_ONE
from flowbench.tuning import TILE


@jit
def within(place, bound, gradient, out):
    """The part of a gradient that passes through the spline: none of what lies beyond its ends."""
    end, zero = like(bound, place[0]), like(0, place[0])
    for n in range(len(out)):
        out[n] = zero if abs(place[n]) >= end else gradient[n]


@jit
def pull_quotient(t, knots, above, to_t, to_s, to_d0, to_d1):
    """The cotangents of t, s (for a given height) and the slopes, from those of u and of its log-slope."""
    _, width, _, height, d0, d1 = knots
    grad_u, grad_log = above
    one, two = like(1, t[0]), like(2, t[0])
    for n in range(len(t)):
        s, both, top, bottom = quotient(t[n], width[n], height[n], d0[n], d1[n])
        middle = one - two * t[n]
        of_top = two * (d1[n] * t[n] + s * middle - d0[n] * (one - t[n])) / top
        of_bottom = two * (d0[n] + d1[n] - two * s) * middle / bottom
        to_t[n] = grad_u[n] * height[n] * s * top / (bottom * bottom) + grad_log[n] * (of_top - of_bottom)
    for n in range(len(t)):
        s, both, top, bottom = quotient(t[n], width[n], height[n], d0[n], d1[n])
        part, less = (s * t[n] * t[n] + d0[n] * both) / bottom, one - two * both
        to_s[n] = grad_u[n] * height[n] * (t[n] * t[n] - part * less) / bottom
        to_s[n] += two * grad_log[n] * (one / s + both / top - less / bottom)
    for n in range(len(t)):
        s, both, top, bottom = quotient(t[n], width[n], height[n], d0[n], d1[n])
        part, rest = (s * t[n] * t[n] + d0[n] * both) / bottom, one - t[n]
        of_log = rest * rest / top - two * both / bottom
        to_d0[n] = grad_u[n] * height[n] * both * (one - part) / bottom + grad_log[n] * of_log
    for n in range(len(t)):
        s, both, top, bottom = quotient(t[n], width[n], height[n], d0[n], d1[n])
        part = (s * t[n] * t[n] + d0[n] * both) / bottom
        of_log = t[n] * t[n] / top - two * both / bottom
        to_d1[n] = grad_log[n] * of_log - grad_u[n] * height[n] * both * part / bottom


@jit
def pull_bins(t, knots, grad_u, to_t, to_s, to_sides):
    """The cotangents of (left, width, height), from those of u, t and s."""
    _, width, _, height, d0, d1 = knots
    to_left, to_width, to_height = to_sides
    for n in range(len(t)):
        to_left[n] = -to_t[n] / width[n]
    for n in range(len(t)):
        to_width[n] = -(to_t[n] * t[n] + to_s[n] * height[n] / width[n]) / width[n]
    for n in range(len(t)):
        s, both, _, bottom = quotient(t[n], width[n], height[n], d0[n], d1[n])
        to_height[n] = grad_u[n] * (s * t[n] * t[n] + d0[n] * both) / bottom + to_s[n] / width[n]


@jit
def pull_shares(shares, index, to_start, to_size, bound, mean, out):
    """The cotangents, K rows, of raw widths or heights from those of where the bin of ``index`` starts and its size."""
    zero = like(0, mean[0])
    free, _ = scale(zero, shares[2], bound)
    mean[:] = 0
    for k in range(shares[2]):
        own, at = row(shares, k), like(k, zero)
        for n in range(len(mean)):
            mean[n] += own[n] * (to_start[n] if at < index[n] else to_size[n] if at == index[n] else zero)
    for k in range(shares[2]):
        own, at, to = row(shares, k), like(k, zero), row(out, k)
        for n in range(len(mean)):
            along = to_start[n] if at < index[n] else to_size[n] if at == index[n] else zero
            to[n] = free * own[n] * (along - mean[n])


@jit
def pull_slopes(index, raws, to_d0, to_d1, out):
    """The cotangents, K − 1 rows, of the raw slopes."""
    raw0, raw1 = raws
    zero = like(0, raw0[0])
    shift, one = like(SLOPE_OF_ONE, zero), like(1, zero)
    for n in range(len(index)):
        to_d0[n] *= sigmoid(raw0[n] + shift)
    for n in range(len(index)):
        to_d1[n] *= sigmoid(raw1[n] + shift)
    for k in range(out[2]):
        to, at = row(out, k), like(k, zero)
        for n in range(len(index)):
            to[n] = to_d1[n] if index[n] == at else to_d0[n] if index[n] == at + one else zero


@jit
def pull_rows(x, theta, bound, gradients, grad_x, grad_theta, work):
    """The cotangents of x (n,) and P rows θ of one column, from those of u and of its log-slope (n,)."""
    count, size = (theta[2] + 1) // 3, len(x)
    (held, index), knots, raws = locate(x, theta, bound, False, work)
    widths, heights = shares_in(work, count, size)
    spare = part(widths, 2 * count + 10, SPARE - 10)
    left, width, lower = knots[0], knots[1], knots[2]
    share_of(held, left, width)
    grad_u, grad_log, to_t, to_s = lower, held, row(spare, 0), row(spare, 1)
    to_d0, to_d1 = row(spare, 2), row(spare, 3)
    within(x, bound, gradients[0], grad_u)
    within(x, bound, gradients[1], grad_log)
    pull_quotient(left, knots, (grad_u, grad_log), to_t, to_s, to_d0, to_d1)
    to_left, to_width, to_height = row(spare, 4), row(spare, 5), row(spare, 6)
    pull_bins(left, knots, grad_u, to_t, to_s, (to_left, to_width, to_height))
    for n in range(size):
        grad_x[n] = gradients[0][n] - grad_u[n] - to_left[n]
    pull_shares(widths, index, to_left, to_width, bound, to_t, part(grad_theta, 0, count))
    pull_shares(heights, index, grad_u, to_height, bound, to_t, part(grad_theta, count, count))
    pull_slopes(index, raws, to_d0, to_d1, part(grad_theta, 2 * count, count - 1))


@jit
def pull(x, theta, bound, gradients, columns, grad_x, grad_theta):
    """The cotangents of x (D, N) and θ from those of u (D, N) and of log_det (N,), of the columns … to before …."""
    work, count = scratch(theta, len(x)), len(theta) // len(x)
    grad_u, grad_log = gradients
    for column in range(columns[0], columns[1]):
        first = count * column
        for lo in range(0, x.shape[1], TILE):
            hi = min(lo + TILE, x.shape[1])
            own, found = (theta, first, count, lo, hi), (grad_theta, first, count, lo, hi)
            above = grad_u[column, lo:hi], grad_log[lo:hi]
            pull_rows(x[column, lo:hi], own, bound, above, grad_x[column, lo:hi], found, work)
