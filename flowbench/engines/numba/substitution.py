"""The sequential steps of substitution, a block of columns in one compiled call; a small network whole in one.

A step of a few units is a few microseconds of arithmetic and, through torch, ten times that in calls.

Units are numbered through all levels as in ``MaskedPlan``, and ``values`` (units, N or some rows more) holds them one
below the other. ``network`` is (flat, starts, biases, visible, is_tanh), see `Packing.places` and
`MaskedPlan.visible`; ``affine`` is (gain, bound).
"""

from __future__ import annotations

import numpy as np

from flowbench.engines.numba.elementary import exp
from flowbench.engines.numba.vectors import (
    activate,
    add_product,
    jit,
    log_scale,
    multiply,
    multiply_add,
)
from flowbench.tuning import TILE


@jit
def weights_between(network, first, last, known, end):
    """The weights by which the units first..last−1, of one strip, see the units known..end−1 of the level below."""
    flat, starts = network[0], network[1]
    stride = starts[first + 1] - starts[first] if last - first > 1 else end - known
    shape, strides = (last - first, end - known), (stride * flat.itemsize, flat.itemsize)
    return np.lib.stride_tricks.as_strided(flat[starts[first] + known :], shape, strides)


@jit
def one_strip(starts, first, last):
    """How far the units from ``first`` on lie in one strip, up to ``last``: their rows follow at one distance."""
    unit = first + 1
    while unit + 1 < last and starts[unit + 1] - starts[unit] == starts[first + 1] - starts[first]:
        unit += 1
    return min(unit + 1, last)


@jit
def gather(values, network, units, known, lo, hi):
    """Add to units (first, last) what the known ones (first, end) of the level below contribute, for rows lo..hi−1."""
    if units[0] < units[1] and known[0] < known[1]:
        own = weights_between(network, units[0], units[1], known[0], known[1])
        add_product(values, units[0], own, values, known[0], lo, hi)


@jit
def preset(values, network, lo, hi):
    """Begin with the biases."""
    flat, biases = network[0], network[2]
    for unit in range(network[3][1, 0], len(values)):
        values[unit, lo:hi] = flat[biases[unit]]


@jit
def inverse_steps(u, network, affine, span, values, x, log_det):
    """The columns from span[0] to before span[1] of the affine inverse of u (D, N): into x (D, N) and ``values``.

    What earlier columns contribute is in ``values`` already. log_det (N,) is added to.
    """
    visible, is_tanh = network[3], network[4]
    start, stop = span
    last = len(visible) - 1
    for lo in range(0, u.shape[1], TILE):
        hi, end = min(lo + TILE, u.shape[1]), min(lo + TILE, values.shape[1])
        sums = log_det[lo:hi]
        if start == 0:
            preset(values, network, lo, end)
            sums[:] = 0
        for step in range(start, stop):
            outputs = visible[last, step], visible[last, step + 1]
            gather(values, network, outputs, (visible[last - 1, start], visible[last - 1, step]), lo, hi)
            shift, raw = values[outputs[0], lo:hi], values[outputs[0] + 1, lo:hi]
            to_x, from_u, known = x[step, lo:hi], u[step, lo:hi], values[step, lo:end]
            for n in range(len(shift)):
                to_x[n] = log_scale(raw[n], affine)
            for n in range(len(shift)):
                sums[n] += to_x[n]
                to_x[n] = from_u[n] * exp(to_x[n]) + shift[n]
            known[:] = 0
            known[: hi - lo] = to_x
            for level in range(1, last):
                units = visible[level, step], visible[level, step + 1]
                gather(values, network, units, (visible[level - 1, start], visible[level - 1, step + 1]), lo, end)
                for unit in range(units[0], units[1]):
                    activate(values[unit, lo:end], is_tanh)


@jit
def gradient_steps(da, slopes, network, span, cotangents):
    """The columns from before span[1] down to span[0] of the gradient: ``da`` is ∂a/∂θ (2·D, N).

    ``slopes`` are those of the hidden units. What later columns contribute is in ``cotangents`` (units, N) already.
    """
    visible = network[3]
    start, stop = span
    last, hidden = len(visible) - 1, visible[1, 0]
    for lo in range(0, da.shape[1], TILE):
        hi = min(lo + TILE, da.shape[1])
        for step in range(stop - 1, start - 1, -1):
            for level in range(last - 1, -1, -1):
                first, end = visible[level, step], visible[level, step + 1]
                # outputs see only columns before their own
                above, top = visible[level + 1, step + (level + 1 == last)], visible[level + 1, stop]
                while first < end and above < top:  # one strip after the other
                    next_above = one_strip(network[1], above, top)
                    own = weights_between(network, above, next_above, first, end)
                    add_product(cotangents, first, own.T, cotangents, above, lo, hi)
                    above = next_above
                if level:
                    for unit in range(first, end):
                        multiply(cotangents[unit, lo:hi], slopes[unit - hidden, lo:hi])
            outputs = visible[last, step]
            for p in range(2):
                multiply_add(cotangents[outputs + p, lo:hi], da[2 * step + p, lo:hi], cotangents[step, lo:hi])
