"""The sequential steps of substitution, a block of columns in one compiled call; a small network whole in one.

A step of a few units is a few microseconds of arithmetic and, through torch, ten times that in calls.

Units are numbered through all levels as in ``MaskedPlan``, and ``values`` (units, N or some rows more) holds them one
below the other. ``network`` is (flat, starts, biases, visible, is_tanh, residual), see `Packing.places` and
`MaskedPlan.visible`; ``sums`` (hidden units, as ``values``) keeps what blocks of a residual one carry on. A context is
in ``values`` before the first step, which is its own and has no outputs: so ``visible`` tells whether there is one.
"""

from __future__ import annotations

import numpy as np

from flowbench.engines.numba.spline import SPARE
from flowbench.engines.numba.steps import solve
from flowbench.engines.numba.vectors import (
    accumulate,
    activate,
    add_product,
    jit,
    multiply_add,
    slope,
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
def first_column(visible):
    """``MaskedPlan.first``: 1 where the first step is a context's, which has no outputs."""
    return 1 if visible[-1, 1] == visible[-1, 0] else 0


@jit
def preset(values, network, lo, hi):
    """Begin with the biases."""
    flat, biases = network[0], network[2]
    for unit in range(network[3][1, 0], len(values)):
        values[unit, lo:hi] = flat[biases[unit]]


@jit
def complete(values, sums, network, place, lo, hi):
    """The hidden units of place (level, step) from their sums: what blocks carry on, and the non-linearity."""
    visible, (level, step) = network[3], place
    first, hidden = visible[level, step], visible[1, 0]
    for unit in range(first, visible[level, step + 1]):
        own = values[unit, lo:hi]
        if network[5] and level % 2 == 1:
            if level > 1:
                accumulate(own, sums[unit - first + visible[level - 2, step] - hidden, lo:hi])
            sums[unit - hidden, lo:hi] = own
        activate(own, network[4])


@jit
def inverse_steps(given, network, way, span, values, sums, x, log_det):
    """The steps from span[0] to before span[1] of the inverse at given (D, draws, N): into x (D, N) and ``values``.

    ``way`` is a `steps.Step`. What earlier steps contribute is in ``values`` already. log_det (N,) is added to.
    """
    visible, last = network[3], len(network[3]) - 1
    (start, stop), before = span, first_column(visible)
    count = visible[last, before + 1] - visible[last, before]
    work, term = np.empty((count + 1 + SPARE, TILE), x.dtype), np.empty(TILE, x.dtype)
    for lo in range(0, x.shape[1], TILE):
        hi, end = min(lo + TILE, x.shape[1]), min(lo + TILE, values.shape[1])
        if start == 0:
            preset(values, network, lo, end)
            log_det[lo:hi] = 0
        for step in range(start, stop):
            if step >= before:
                first, fresh = visible[last, step], (visible[last - 1, start], visible[last - 1, step])
                gather(values, network, (first, first + count), fresh, lo, hi)
                theta, own, found = (values, first, count, lo, hi), given[step - before], x[step - before, lo:hi]
                solve((own, 0, len(own), lo, hi), theta, way, found, term[: hi - lo], work)
                accumulate(log_det[lo:hi], term[: hi - lo])
                known = values[visible[0, step], lo:end]
                known[:] = 0
                known[: hi - lo] = found
            for level in range(1, last):
                units = visible[level, step], visible[level, step + 1]
                gather(values, network, units, (visible[level - 1, start], visible[level - 1, step + 1]), lo, end)
                complete(values, sums, network, (level, step), lo, end)


@jit
def gradient_steps(da, values, network, span, cotangents):
    """The steps from before span[1] down to span[0] of the gradient: ``da`` is ∂a/∂θ (D·P, N).

    ``values`` are the inverse's. What later steps contribute is in ``cotangents`` (units, N) already.
    """
    visible = network[3]
    start, stop = span
    last = len(visible) - 1
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
                for unit in range(first, end if level else first):
                    slope(cotangents[unit, lo:hi], values[unit, lo:hi], network[4])
                    if network[5] and level % 2 == 1 and level + 2 < last:
                        accumulate(cotangents[unit, lo:hi], cotangents[unit - first + visible[level + 2, step], lo:hi])
            along = cotangents[visible[0, step], lo:hi]
            for output in range(visible[last, step], visible[last, step + 1]):
                multiply_add(cotangents[output, lo:hi], da[output - visible[last, 0], lo:hi], along)
