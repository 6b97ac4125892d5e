"""``TorchPointwise``, compiled: each function one call where torch needs three to ten. Affine maps alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from flowbench.transforms.compiled.vectors import activate, add, jit, normalise, normalise_backward
from flowbench.transforms.compiled.vectors import slope as slope_of

if TYPE_CHECKING:
    from flowbench.transforms.network import Activation


@jit
def _finish(values, bias, active, is_tanh):
    for unit in range(len(values)):
        add(values[unit], bias[unit])
        if active:
            activate(values[unit], is_tanh)


@jit
def _slope(cotangent, h, is_tanh):
    for unit in range(len(h)):
        slope_of(cotangent[unit], h[unit], is_tanh)


@jit
def _transform(x, theta, bound, u, precision):
    for column in range(len(x)):
        shift, raw = theta[2 * column], theta[2 * column + 1]
        normalise(x[column], shift, raw, bound, u[column], precision[column])


@jit
def _transform_backward(u, precision, bound, grad_u, grad_log_det, grad_x, grad_theta):
    for column in range(len(u)):
        known = u[column], precision[column], grad_u[column], grad_log_det
        normalise_backward(*known, bound, grad_x[column], grad_theta[2 * column], grad_theta[2 * column + 1])


def finish(values: Tensor, bias: Tensor, activation: Activation | None) -> None:
    """As ``TorchPointwise.finish``."""
    is_tanh = activation is not None and activation.name == "tanh"
    _finish(values.numpy(), bias.numpy(), activation is not None, is_tanh)


def slope(cotangent: Tensor, h: Tensor, activation: Activation) -> None:
    """As ``TorchPointwise.slope``."""
    _slope(cotangent.numpy(), h.numpy(), activation.name == "tanh")


def transform(affine: Any, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """As ``TorchPointwise.transform``."""
    u, precision = torch.empty_like(x), torch.empty_like(x)
    _transform(x.numpy(), theta.numpy(), affine.bound or 0.0, u.numpy(), precision.numpy())
    return u, precision


def transform_backward(
    affine: Any, x: Tensor, theta: Tensor, image: tuple[Tensor, Tensor], gradients: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """As ``TorchPointwise.transform_backward``."""
    grad_x, grad_theta = torch.empty_like(x), torch.empty_like(theta)
    known = (tensor.numpy() for tensor in image)
    above = (tensor.numpy() for tensor in gradients)
    _transform_backward(*known, affine.bound or 0.0, *above, grad_x.numpy(), grad_theta.numpy())
    return grad_x, grad_theta
