"""Whole transforms in one compiled call each, for small networks.

Six columns and a hundred hidden units are some tens of microseconds of arithmetic, and through torch twice as much in
calls. The arithmetic here is the exact half that masks leave: each product stops where the mask does.

Arrays are (units, N). ``flat`` is a MADE's, its matrices unstripped; ``layout`` (layers, 4) says where in it a layer's
weights begin, how many units and columns they have, and where its biases begin; ``before`` is the schedule's:
before[l, s] says where in level l the units of step s begin. ``values`` holds all levels but the input, one below the
other, and some rows more than N.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowbench.transforms.compiled.elementary import exp
from flowbench.transforms.compiled.vectors import (
    TILE,
    activate,
    add_product,
    jit,
    log_scale,
    normalise,
    normalise_backward,
    outer,
    slope,
    total,
)
from flowbench.transforms.transform import Pull

if TYPE_CHECKING:
    from flowbench.transforms.made import MADE

LANES = 16
"""Hidden values have a whole number of so many rows: what remains of a row that vectors do not divide is slow."""

WORK = 1 << 22
"""Weights times rows up to which this is faster than torch's products."""


def suits(made: MADE, rows: Tensor) -> bool:
    """Whether the network is small enough, and its matrices are whole."""
    return made.whole and made.flat.numel() * rows.shape[1] <= WORK and made.flat.dtype == rows.dtype


@functools.cache
def _layout(sizes: tuple[tuple[int, int], ...]) -> NDArray[np.int64]:
    """``layout`` as above, from the layers' shapes."""
    rows, begin = [], 0
    for units, columns in sizes:
        rows.append((begin, units, columns, begin + units * columns))
        begin += units * columns + units
    return np.array(rows)


def _network(made: MADE) -> tuple[Any, ...]:
    bound = made.univariate.bound or 0.0  # type: ignore[attr-defined]
    before = made.schedule.inverse.before
    return made.flat.detach().numpy(), _layout(made.shapes), before, made.activation.name == "tanh", bound


def forward(made: MADE, x: Tensor) -> tuple[Tensor, Tensor, Pull]:
    """``MaskedAutoregressive.forward_vjp``."""
    network = _network(made)
    u, precision, log_det = torch.empty_like(x), torch.empty_like(x), x.new_empty(x.shape[1])
    values, image = x.new_empty(made.units, _padded(x)).numpy(), (u.numpy(), precision.numpy())
    _forward(x.numpy(), *network, values, *image, log_det.numpy())

    def pull(grad_u: Tensor, grad_log_det: Tensor, out: Sequence[Tensor]) -> Tensor:
        grad_x = torch.empty_like(x)
        above, found = (grad_u.numpy(), grad_log_det.numpy()), (grad_x.numpy(), out[0].zero_().numpy())
        _backward(x.numpy(), *network, values, *image, *above, *found)
        return grad_x

    return u, log_det, pull


def invert(made: MADE, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x (D, N), log_det (N,) and the values of all levels but the input, from u (D, N)."""
    x, log_det = torch.empty_like(u), u.new_empty(u.shape[1])
    values = u.new_empty(made.units, _padded(u))
    _inverse(u.numpy(), *_network(made), values.numpy(), x.numpy(), log_det.numpy())
    return x, log_det, values[:, : u.shape[1]]


def _padded(rows: Tensor) -> int:
    return -(-rows.shape[1] // LANES) * LANES


@jit
def _weights(flat, layout, layer):
    start, units, columns, _ = layout[layer]
    return flat[start : start + units * columns].reshape((units, columns))


@jit
def _preset(values, flat, layout, lo, hi):
    """Begin with the biases."""
    row = 0
    for layer in range(len(layout)):
        units, bias = layout[layer, 1], layout[layer, 3]
        for unit in range(units):
            values[row, lo:hi] = flat[bias + unit]
            row += 1


@jit
def _gather(values, x, flat, layout, before, layer, row, step, lo, hi, end):
    """Add to the units of ``layer`` that ``step`` finds, which begin at ``row`` in values, what they see below."""
    first, last = before[layer + 1, step], before[layer + 1, step + 1]
    if first == last:
        return
    known = before[layer, step if layer == 0 else step + 1]
    weights = _weights(flat, layout, layer)[first:last, :known]
    if layer == 0:
        add_product(values, row + first, weights, x, 0, lo, hi)
    else:
        add_product(values, row + first, weights, values, row - layout[layer - 1, 1], lo, end)


@jit
def _activate(values, row, first, last, lo, hi, is_tanh):
    for unit in range(row + first, row + last):
        activate(values[unit, lo:hi], is_tanh)


@jit
def _forward(x, flat, layout, before, is_tanh, bound, values, u, precision, log_det):
    """u (D, N), the log-precisions (D, N) and log_det (N,) of x (D, N); all levels' values are kept."""
    layers, dim = len(layout), len(x)
    for lo in range(0, x.shape[1], TILE):
        hi = min(lo + TILE, x.shape[1])
        end = min(lo + TILE, values.shape[1])
        _preset(values, flat, layout, lo, end)
        row = 0
        for layer in range(layers):
            for step in range(dim):
                _gather(values, x, flat, layout, before, layer, row, step, lo, hi, end)
            if layer + 1 < layers:
                _activate(values, row, 0, layout[layer, 1], lo, end, is_tanh)
                row += layout[layer, 1]
        sums = log_det[lo:hi]
        sums[:] = 0
        for column in range(dim):
            shift, raw = values[row + 2 * column, lo:hi], values[row + 2 * column + 1, lo:hi]
            from_x, to_u, p = x[column, lo:hi], u[column, lo:hi], precision[column, lo:hi]
            normalise(from_x, shift, raw, bound, to_u, p)
            for n in range(len(p)):
                sums[n] += p[n]


@jit
def _inverse(u, flat, layout, before, is_tanh, bound, values, x, log_det):
    """x (D, N) and log_det (N,) of u (D, N), by substitution."""
    layers, dim = len(layout), len(u)
    for lo in range(0, u.shape[1], TILE):
        hi = min(lo + TILE, u.shape[1])
        end = min(lo + TILE, values.shape[1])
        _preset(values, flat, layout, lo, end)
        sums = log_det[lo:hi]
        sums[:] = 0
        for step in range(dim):
            row = 0
            for layer in range(layers):
                _gather(values, x, flat, layout, before, layer, row, step, lo, hi, end)
                if layer + 1 < layers:
                    _activate(values, row, before[layer + 1, step], before[layer + 1, step + 1], lo, end, is_tanh)
                    row += layout[layer, 1]
            shift, raw = values[row + 2 * step, lo:hi], values[row + 2 * step + 1, lo:hi]
            from_u, to_x = u[step, lo:hi], x[step, lo:hi]
            for n in range(len(shift)):
                to_x[n] = log_scale(raw[n], bound)
            for n in range(len(shift)):
                sums[n] += to_x[n]
                to_x[n] = from_u[n] * exp(to_x[n]) + shift[n]


@jit
def _backward(x, flat, layout, before, is_tanh, bound, values, u, precision, grad_u, grad_log_det, grad_x, grad_flat):
    """``_forward``'s gradients: grad_x (D, N) and grad_flat, which is zero before."""
    dim = len(x)
    cotangents = np.zeros_like(values)
    end = len(values)
    for column in range(dim):
        outputs = end - 2 * (dim - column)
        shift, raw = cotangents[outputs], cotangents[outputs + 1]
        known = u[column], precision[column], grad_u[column], grad_log_det
        normalise_backward(*known, bound, grad_x[column], shift, raw)
    for layer in range(len(layout) - 1, -1, -1):
        units, bias = layout[layer, 1], layout[layer, 3]
        top = end - units
        bottom = top - layout[layer - 1, 1] if layer else 0
        above = cotangents[top:end]
        below = values[bottom:top] if layer else x
        out = cotangents[bottom:top] if layer else grad_x
        gradient = _weights(grad_flat, layout, layer)
        transposed = np.ascontiguousarray(_weights(flat, layout, layer).T)
        for unit in range(units):
            grad_flat[bias + unit] = total(above[unit])
        for step in range(dim):
            first, last = before[layer + 1, step], before[layer + 1, step + 1]
            known = before[layer, step if layer == 0 else step + 1]
            outer(gradient[first:last, :known], above[first:last], below[:known])
            first, last = before[layer, step], before[layer, step + 1]
            later = before[layer + 1, step + 1 if layer == 0 else step]
            add_product(out, first, transposed[first:last, later:], above, later, 0, out.shape[1])
        if layer:  # in one loop, because a short one costs what it checks first
            slope(out.reshape(-1), below.reshape(-1), is_tanh)
        end = top
