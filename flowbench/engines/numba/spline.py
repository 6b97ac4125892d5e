"""Rational-quadratic splines, both ways: each one compiled call where torch needs fifty.

θ (D·(3K − 1), N) holds for each column the widths, the heights and the slopes; see `RationalQuadraticSpline`, whose
equations these are. What a kernel needs for one column and a tile of rows stays in ``work`` (2K + SPARE, TILE): the
shares of widths and heights, then what is known of the bin that each number lies in.

A loop writes one row, or two, of what it reads few of: else the compiler would have to ask whether they overlap in more
ways than it cares to, and leaves vectors out.
"""

from __future__ import annotations

import numpy as np

from flowbench.engines.numba.elementary import exp, like, log, softplus
from flowbench.engines.numba.vectors import jit, part, row, softmax
from flowbench.transforms.spline import LEAST, SLOPE_OF_ONE
from flowbench.tuning import TILE

SPARE = 17
"""Rows of ``work`` besides the shares."""


@jit
def scale(like_this, count, bound):
    """What shares are multiplied by, and what is added, to give the sizes of bins: none is less than LEAST."""
    return like(2 * bound * (1 - LEAST * count), like_this), like(2 * bound * LEAST, like_this)


@jit
def edge(passed, k, count, bound):
    """Where bin k begins, when the shares before it add up to ``passed``."""
    free, least = scale(passed, count, bound)
    return passed * free + (k * least - like(bound, passed))


@jit
def find(place, shares, bound, passed, index):
    """The bin that each place lies in, as numbers of the places' own type: vectors are of one width."""
    passed[:] = 0
    index[:] = 0
    for k in range(1, shares[2]):
        before, at = row(shares, k - 1), like(k, place[0])
        for n in range(len(place)):
            passed[n] += before[n]
            index[n] = at if edge(passed[n], at, shares[2], bound) <= place[n] else index[n]


@jit
def pick(index, shares, bound, start, size):
    """Where the bins of ``index`` start, and their size."""
    count, zero = shares[2], like(0, start[0])
    start[:] = 0
    size[:] = row(shares, 0)
    for k in range(1, count):
        before, own, at = row(shares, k - 1), row(shares, k), like(k, start[0])
        for n in range(len(start)):
            start[n] += before[n] if index[n] >= at else zero
            size[n] = own[n] if index[n] == at else size[n]
    for n in range(len(start)):
        start[n] = edge(start[n], index[n], count, bound)
    free, least = scale(start[0], count, bound)
    for n in range(len(size)):
        size[n] = size[n] * free + least


@jit
def ends(index, raw, raw0, raw1):
    """The raw slopes, of K − 1 rows, at both ends of the bins of ``index``; 0 at the ends of the spline."""
    matrix, first, count, lo, _ = raw
    zero = like(0, raw0[0])
    for n in range(len(index)):
        k = int(index[n])
        raw0[n] = matrix[first + k - 1, lo + n] if k > 0 else zero
        raw1[n] = matrix[first + k, lo + n] if k < count else zero


@jit
def slopes(raw, out):
    """Slopes of raw ones: 1 of 0."""
    least, shift = like(LEAST, raw[0]), like(SLOPE_OF_ONE, raw[0])
    for n in range(len(out)):
        out[n] = exp(-abs(raw[n] + shift))
    for n in range(len(out)):
        out[n] = least + softplus(raw[n] + shift, out[n])


@jit
def hold(place, bound, out):
    """What lies beyond −B or B is taken there."""
    end = like(bound, place[0])
    for n in range(len(out)):
        out[n] = end if place[n] > end else place[n]
    for n in range(len(out)):
        out[n] = -end if out[n] < -end else out[n]


@jit
def shares_in(work, count, n):
    """The rows of ``work`` that hold the shares of K widths and heights."""
    return (work, 0, count, 0, n), (work, count, count, 0, n)


@jit
def locate(place, theta, bound, by_height, work):
    """Fill ``work`` for places (n,) and P rows θ: (held, index), (left, width, lower, height, d0, d1), (raw0, raw1)."""
    count, n = (theta[2] + 1) // 3, len(place)
    widths, heights = shares_in(work, count, n)
    spare = part(widths, 2 * count, SPARE)
    held, index = row(spare, 0), row(spare, 1)
    left, width, lower, height, d0, d1 = (
        row(spare, 2),
        row(spare, 3),
        row(spare, 4),
        row(spare, 5),
        row(spare, 6),
        row(spare, 7),
    )
    raw0, raw1 = row(spare, 8), row(spare, 9)
    softmax(part(theta, 0, count), widths, d0)
    softmax(part(theta, count, count), heights, d0)
    hold(place, bound, held)
    find(held, heights if by_height else widths, bound, d0, index)
    pick(index, widths, bound, left, width)
    pick(index, heights, bound, lower, height)
    ends(index, part(theta, 2 * count, count - 1), raw0, raw1)
    slopes(raw0, d0)
    slopes(raw1, d1)
    return (held, index), (left, width, lower, height, d0, d1), (raw0, raw1)


@jit
def quotient(t, width, height, d0, d1):
    """Of eqs. 4 and 5, at t in [0, 1] within a bin: s, t·(1 − t), and what is divided and divides."""
    one, two = like(1, t), like(2, t)
    s, both = height / width, t * (one - t)
    bottom = s + (d0 + d1 - two * s) * both
    top = d1 * t * t + two * s * both + d0 * (one - t) * (one - t)
    return s, both, top, bottom


@jit
def share_of(held, start, size):
    """(held − start)/size in place of start, in [0, 1]."""
    zero, one = like(0, held[0]), like(1, held[0])
    for n in range(len(held)):
        t = (held[n] - start[n]) / size[n]
        t = zero if t < zero else t
        start[n] = one if t > one else t


@jit
def finish(place, bound, knots, t, sign, image, log_slope):
    """±log of the slope at t; beyond the bound it is 0, and the image is the place."""
    _, width, _, height, d0, d1 = knots
    end, one, factor = like(bound, place[0]), like(1, place[0]), like(sign, place[0])
    zero = like(0, one)
    for n in range(len(t)):
        s, _, top, bottom = quotient(t[n], width[n], height[n], d0[n], d1[n])
        steep = s / bottom
        log_slope[n] = factor * log(steep * top * steep)
    for n in range(len(t)):
        inside = abs(place[n]) < end
        image[n] = image[n] if inside else place[n]
        log_slope[n] = log_slope[n] if inside else zero


@jit
def forward_rows(x, theta, bound, u, log_slope, work):
    """u and log|∂u/∂x| (n,) of one column's x (n,), given P rows θ."""
    (held, _), knots, _ = locate(x, theta, bound, False, work)
    left, width, lower, height, d0, d1 = knots
    share_of(held, left, width)
    t = left
    for n in range(len(t)):
        s, both, _, bottom = quotient(t[n], width[n], height[n], d0[n], d1[n])
        u[n] = lower[n] + height[n] * (s * t[n] * t[n] + d0[n] * both) / bottom
    finish(x, bound, knots, t, 1, u, log_slope)


@jit
def inverse_rows(u, theta, bound, x, log_slope, work):
    """x and log|∂x/∂u| (n,) of one column's u (n,), given P rows θ: eqs. 6–8 and 29–32."""
    (held, _), knots, _ = locate(u, theta, bound, True, work)
    left, width, lower, height, d0, d1 = knots
    zero, one, two = like(0, held[0]), like(1, held[0]), like(2, held[0])
    t = lower
    for n in range(len(t)):
        s, y = height[n] / width[n], held[n] - lower[n]
        y = zero if y < zero else y
        excess = y * (d0[n] + d1[n] - two * s)
        a, b, c = height[n] * (s - d0[n]) + excess, height[n] * d0[n] - excess, -s * y
        inner = b * b - two * two * a * c
        root = np.sqrt(zero if inner < zero else inner)
        found = two * c / (-b - root)  # in the form that does not cancel
        found = zero if found < zero else found
        t[n] = one if found > one else found
    for n in range(len(t)):
        x[n] = left[n] + t[n] * width[n]
    finish(u, bound, knots, t, -1, x, log_slope)


@jit
def scratch(theta, dim):
    """A place for ``work``."""
    return np.empty((2 * (len(theta) // dim + 1) // 3 + SPARE, TILE), theta.dtype)


@jit
def forward(x, theta, bound, columns, u, log_slope):
    """u and log|∂u/∂x| (D, N) of x (D, N), of the columns from columns[0] to before columns[1]."""
    work, count = scratch(theta, len(x)), len(theta) // len(x)
    for column in range(columns[0], columns[1]):
        for lo in range(0, x.shape[1], TILE):
            hi = min(lo + TILE, x.shape[1])
            image = u[column, lo:hi], log_slope[column, lo:hi]
            forward_rows(x[column, lo:hi], (theta, count * column, count, lo, hi), bound, image[0], image[1], work)


@jit
def inverse(u, theta, bound, columns, x, log_slope):
    """x and log|∂x/∂u| (D, N) of u (D, N), of the columns from … to before …."""
    work, count = scratch(theta, len(u)), len(theta) // len(u)
    for column in range(columns[0], columns[1]):
        for lo in range(0, u.shape[1], TILE):
            hi = min(lo + TILE, u.shape[1])
            image = x[column, lo:hi], log_slope[column, lo:hi]
            inverse_rows(u[column, lo:hi], (theta, count * column, count, lo, hi), bound, image[0], image[1], work)
