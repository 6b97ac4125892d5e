"""The sequential steps of substitution as compiled loops, for CPUs.

A step of a few units is a few microseconds of arithmetic and, through torch, ten times that in calls. Here a whole
block of columns is one call. numba compiles it on the user's machine, without a compiler there, once for each dtype and
number of layers, and keeps it on disk.

Arrays are (units, N), levels as in ``substitution``: ``before[l, s]`` says where in level l the units of step s begin,
or, in the gradient, whose steps run from the last unit to the first, where they end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numba
from torch import Tensor

from flowbench.transforms.univariate import Affine


def block(dim: int) -> int:
    """Columns in a block: inside one all is done here, between them by torch's matrix products.

    Measured on two cores: at D = 43 and 63 blocks of 8 are best, where many hidden units belong to each column; at
    D = 784 blocks of 32, where there is one and the products would be thin.
    """
    return max(8, min(32, dim // 16))


TILE = 256
"""Rows that go through all steps of a block together: their values stay in the nearest cache."""


def _jit(function: Any) -> Any:
    # contraction to fused multiply-adds only: NaN and infinities keep their meaning
    options: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder can be written: compiled anew in each process
        return numba.njit(**options)(function)


@_jit
def _gather(out, weights, below, first, last, lo, hi):
    """Out += weights @ below[first:last, lo:hi], four at a time: fewer loads and stores of out."""
    # slices here as elsewhere, because an index that counts from zero is not checked for being negative: only such
    # loops become vector instructions
    k = first
    while k + 4 <= last:
        w0, w1, w2, w3 = weights[k - first], weights[k - first + 1], weights[k - first + 2], weights[k - first + 3]
        b0, b1, b2, b3 = below[k, lo:hi], below[k + 1, lo:hi], below[k + 2, lo:hi], below[k + 3, lo:hi]
        for n in range(len(out)):
            out[n] += w0 * b0[n] + w1 * b1[n] + w2 * b2[n] + w3 * b3[n]
        k += 4
    while k < last:
        w0, b0 = weights[k - first], below[k, lo:hi]
        for n in range(len(out)):
            out[n] += w0 * b0[n]
        k += 1


@_jit
def _activate(h, tanh):
    """The hidden non-linearity in place: tanh, or else relu."""
    if tanh:
        for n in range(len(h)):
            h[n] = math.tanh(h[n])
    else:
        for n in range(len(h)):
            h[n] = max(h[n], h.dtype.type(0))


@_jit
def _invert_affine(x, u, shift, raw, bound):
    """``Affine.inverse`` into x; no bound is a bound of 0."""
    half = raw.dtype.type(-0.5)
    if bound > 0:
        b = raw.dtype.type(bound)
        for n in range(len(x)):
            x[n] = u[n] * math.exp(b * math.tanh(half / b * raw[n])) + shift[n]
    else:
        for n in range(len(x)):
            x[n] = u[n] * math.exp(half * raw[n]) + shift[n]


@_jit
def _multiply(out, a):
    for n in range(len(out)):
        out[n] *= a[n]


@_jit
def _multiply_add(out, a, b):
    for n in range(len(out)):
        out[n] += a[n] * b[n]


@_jit
def _inverse_block(u, values, weights, before, start, stop, tanh, bound):
    """Steps start..stop−1 of the affine inverse: values[0] is x (D, N), values[-1] θ (2·D, N), u (D, N).

    The weights are those by which the units of these steps see each other.
    """
    layers = len(weights)
    for lo in range(0, u.shape[1], TILE):
        hi = min(lo + TILE, u.shape[1])
        for step in range(start, stop):
            for level in range(layers):
                first, last = before[level, start], before[level, step if level == 0 else step + 1]
                origin = before[level + 1, start]
                for unit in range(before[level + 1, step], before[level + 1, step + 1]):
                    out = values[level + 1][unit, lo:hi]
                    _gather(out, weights[level][unit - origin, : last - first], values[level], first, last, lo, hi)
                    if level + 1 < layers:
                        _activate(out, tanh)
            shift, raw = values[layers][2 * step, lo:hi], values[layers][2 * step + 1, lo:hi]
            _invert_affine(values[0][step, lo:hi], u[step, lo:hi], shift, raw, bound)


@_jit
def _gradient_block(da, slopes, values, weights, before, start, stop):
    """Steps start..stop−1 of the gradient: values[0] is θ̄ (2·D, N), values[-1] A (D, N); da is ∂a/∂θ (2·D, N).

    The weights are those by which the units of these steps see each other, already transposed.
    """
    layers = len(weights)
    dim = values[layers].shape[0]
    for lo in range(0, da.shape[1], TILE):
        hi = min(lo + TILE, da.shape[1])
        for step in range(start, stop):
            for level in range(layers):
                first, last = before[level, step if level == 0 else step + 1], before[level, start]
                row, column = before[level + 1, stop], before[level, stop]
                for unit in range(before[level + 1, step + 1], before[level + 1, step]):
                    out = values[level + 1][unit, lo:hi]
                    own = weights[level][unit - row, first - column : last - column]
                    _gather(out, own, values[level], first, last, lo, hi)
                    if level + 1 < layers:
                        _multiply(out, slopes[level][unit, lo:hi])
            for p in range(before[0, step + 1], before[0, step]):
                _multiply_add(values[0][p, lo:hi], da[p, lo:hi], values[layers][dim - 1 - step, lo:hi])


Steps = Callable[[int, int, Sequence[Tensor]], None]


def inverse_steps(u: Tensor, values: Sequence[Tensor], before: Tensor, activation: str, affine: Affine) -> Steps:
    """``_inverse_block`` on these tensors, as a function of the steps and their weights: (start, stop, weights)."""
    known = u.numpy(), _arrays(values)
    tanh, bound = activation == "tanh", affine.bound or 0.0
    return lambda a, b, weights: _inverse_block(*known, _arrays(weights), before.numpy(), a, b, tanh, bound)


def gradient_steps(da: Tensor, slopes: Sequence[Tensor], values: Sequence[Tensor], before: Tensor) -> Steps:
    """``_gradient_block`` on these tensors, as a function of the steps and their weights: (start, stop, weights)."""
    known = da.numpy(), _arrays(slopes), _arrays(values)
    return lambda a, b, weights: _gradient_block(*known, _arrays(weights), before.numpy(), a, b)


def _arrays(tensors: Sequence[Tensor]) -> tuple[Any, ...]:
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)
