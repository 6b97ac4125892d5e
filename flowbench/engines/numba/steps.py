"""What a step of substitution does to a column: of each map that kernels know, chosen by the type that tells of it."""

from __future__ import annotations

from typing import Any, NamedTuple

from numba.extending import overload

from flowbench.engines.numba.elementary import OPTIONS
from flowbench.engines.numba.mixture import draw_rows
from flowbench.engines.numba.spline import inverse_rows
from flowbench.engines.numba.vectors import affine_inverse, row


class AffineInverse(NamedTuple):
    """Of an affine map; no bound is a bound of 0."""

    gain: float
    bound: float


class SplineInverse(NamedTuple):
    """Of a rational-quadratic spline."""

    bound: float


class MixtureDraw(NamedTuple):
    """Of a mixture of Gaussians: no inverse, a draw; there is no log-derivative."""

    components: int


Step = AffineInverse | SplineInverse | MixtureDraw


def solve(given, theta, step, x, log_slope, work):
    """x and log|∂x/∂u| (n,) of numbers (draws, n), given rows θ."""
    raise NotImplementedError("it is compiled into others")


def _affine(given, theta, step, x, log_slope, work):
    affine_inverse(row(given, 0), row(theta, 0), row(theta, 1), step, x, log_slope)


def _spline(given, theta, step, x, log_slope, work):
    inverse_rows(row(given, 0), theta, step.bound, x, log_slope, work)


def _mixture(given, theta, step, x, log_slope, work):
    log_slope[:] = 0
    draw_rows(row(given, 0), row(given, 1), theta, x, work)


_WAYS: dict[type, Any] = {AffineInverse: _affine, SplineInverse: _spline, MixtureDraw: _mixture}


@overload(solve, jit_options=OPTIONS)
def _chosen(given, theta, step, x, log_slope, work):
    return _WAYS[step.instance_class]
