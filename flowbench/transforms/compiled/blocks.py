"""The sequential steps of substitution, a block of columns in one compiled call.

A step of a few units is a few microseconds of arithmetic and, through torch, ten times that in calls.

Arrays are (units, N), levels as in ``substitution``: ``before[l, s]`` says where in level l the units of step s begin,
or, in the gradient, whose steps run from the last unit to the first, where they end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from flowbench.transforms.compiled.elementary import exp
from flowbench.transforms.compiled.vectors import TILE, activate, add_product, jit, log_scale, multiply, multiply_add
from flowbench.transforms.univariate import Affine


def block(dim: int) -> int:
    """Columns in a block: inside one all is done here, between them by torch's matrix products.

    Measured on two cores: at D = 43 and 63 blocks of 16 are best, where many hidden units belong to each column; at
    D = 784 blocks of 64, where there is one and the products would be thin. What is no multiple of 16 takes longer.
    """
    return 16 if dim < 128 else 32 if dim < 512 else 64


@jit
def _inverse_block(u, values, weights, before, start, stop, is_tanh, bound):
    """Steps start..stop−1 of the affine inverse: values[0] is x (D, N), values[-1] θ (2·D, N), u (D, N).

    The weights are those by which the units of these steps see each other.
    """
    layers = len(weights)
    for lo in range(0, u.shape[1], TILE):
        hi = min(lo + TILE, u.shape[1])
        for step in range(start, stop):
            for level in range(layers):
                known, end = before[level, start], before[level, step if level == 0 else step + 1]
                first, last, origin = before[level + 1, step], before[level + 1, step + 1], before[level + 1, start]
                own = weights[level][first - origin : last - origin, : end - known]
                add_product(values[level + 1], first, own, values[level], known, lo, hi)
                if level + 1 < layers:
                    for unit in range(first, last):
                        activate(values[level + 1][unit, lo:hi], is_tanh)
            shift, raw = values[layers][2 * step, lo:hi], values[layers][2 * step + 1, lo:hi]
            to_x, from_u = values[0][step, lo:hi], u[step, lo:hi]
            for n in range(len(shift)):
                to_x[n] = log_scale(raw[n], bound)
            for n in range(len(shift)):
                to_x[n] = from_u[n] * exp(to_x[n]) + shift[n]


@jit
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
                known, end = before[level, step if level == 0 else step + 1], before[level, start]
                first, last = before[level + 1, step + 1], before[level + 1, step]
                row, column = before[level + 1, stop], before[level, stop]
                own = weights[level][first - row : last - row, known - column : end - column]
                add_product(values[level + 1], first, own, values[level], known, lo, hi)
                if level + 1 < layers:
                    for unit in range(first, last):
                        multiply(values[level + 1][unit, lo:hi], slopes[level][unit, lo:hi])
            for p in range(before[0, step + 1], before[0, step]):
                multiply_add(values[0][p, lo:hi], da[p, lo:hi], values[layers][dim - 1 - step, lo:hi])


Steps = Callable[[int, int, Sequence[Tensor]], None]


def inverse_steps(
    u: Tensor, values: Sequence[Tensor], before: NDArray[np.int64], activation: str, affine: Affine
) -> Steps:
    """``_inverse_block`` on these tensors, as a function of the steps and their weights: (start, stop, weights)."""
    known = u.numpy(), _arrays(values)
    is_tanh, bound = activation == "tanh", affine.bound or 0.0
    return lambda a, b, weights: _inverse_block(
        *known, _arrays([weight.contiguous() for weight in weights]), before, a, b, is_tanh, bound
    )


def gradient_steps(da: Tensor, slopes: Sequence[Tensor], values: Sequence[Tensor], before: NDArray[np.int64]) -> Steps:
    """``_gradient_block`` on these tensors, as a function of the steps and their weights: (start, stop, weights)."""
    known = da.numpy(), _arrays(slopes), _arrays(values)
    return lambda a, b, weights: _gradient_block(
        *known, _arrays([weight.contiguous() for weight in weights]), before, a, b
    )


def _arrays(tensors: Sequence[Tensor]) -> tuple[Any, ...]:
    return tuple(tensor.detach().numpy() for tensor in tensors)
