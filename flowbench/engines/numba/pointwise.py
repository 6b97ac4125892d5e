"""What is done to each number between torch's products, each one compiled call where torch needs three to ten."""

from __future__ import annotations

from flowbench.engines.numba.vectors import activate, add, affine_map, jit, pull_affine
from flowbench.engines.numba.vectors import slope as slope_of


@jit
def finish(values, bias, active, is_tanh):
    """Add biases (units,) to a product (units, N), and apply the non-linearity if it is an active layer."""
    for unit in range(len(values)):
        add(values[unit], bias[unit])
        if active:
            activate(values[unit], is_tanh)


@jit
def slope(cotangent, h, is_tanh):
    """What a cotangent (units, N) becomes below the non-linearity whose output is h, in place."""
    for unit in range(len(h)):
        slope_of(cotangent[unit], h[unit], is_tanh)


@jit
def move(x, theta, affine, u, precision):
    """The affine map of x (D, N), given θ (2·D, N): u and the log-precisions (D, N)."""
    for column in range(len(x)):
        affine_map(x[column], theta[2 * column], theta[2 * column + 1], affine, u[column], precision[column])


@jit
def pull_move(image, gradients, affine, grad_x, grad_theta):
    """The cotangents of x (D, N) and θ (2·D, N) from those of u (D, N) and of log_det (N,)."""
    u, precision = image
    grad_u, grad_log_det = gradients
    for column in range(len(u)):
        grad_x[column] = grad_u[column]
        theta = grad_theta[2 * column], grad_theta[2 * column + 1]
        pull_affine(u[column], precision[column], affine, grad_log_det, grad_x[column], *theta)
