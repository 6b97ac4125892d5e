"""What is done to each number between a network's products: in torch's calls, or compiled where those are long.

A call of torch's on a few thousand numbers takes longer to make than to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from flowbench.transforms import compiled
from flowbench.transforms.univariate import Univariate

if TYPE_CHECKING:
    from flowbench.transforms.network import Activation

COMPILED = 1 << 17
"""Numbers up to which the compiled way, on one thread, is the faster one."""


def per_parameter(theta: Tensor, parameters: int) -> tuple[Tensor, ...]:
    """Outputs θ, column by column (D·P, N), as P views (D, N)."""
    return theta.view(len(theta) // parameters, parameters, theta.shape[1]).unbind(1)


def partials(univariate: Univariate, u: Tensor, theta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of a = inverse(u, θ) and ℓ = log|∂a/∂u|: ∂a/∂u (D, N), ∂a/∂θ (D·P, N), ∂ℓ/∂u, ∂ℓ/∂θ, from u (D, N), θ (D·P, N).

    The map is elementwise: sums tell all.
    """
    with torch.enable_grad():
        u, theta = u.detach().requires_grad_(), theta.detach().requires_grad_()
        a, log_derivative = univariate.inverse(u, per_parameter(theta, univariate.parameters))
        da_du, da = torch.autograd.grad(a.sum(), (u, theta), retain_graph=True)
        dl_du, dl = torch.autograd.grad(log_derivative.sum(), (u, theta), materialize_grads=True)
    return da_du, da, dl_du, dl


class TorchPointwise:
    """Torch's calls."""

    @staticmethod
    def finish(values: Tensor, bias: Tensor, activation: Activation | None) -> None:
        """Add the biases (units,) to a product (units, N) and apply the non-linearity, in place."""
        values += bias[:, None]
        if activation is not None:
            activation.apply_(values)

    @staticmethod
    def slope(cotangent: Tensor, h: Tensor, activation: Activation) -> None:
        """What a cotangent (units, N) becomes below the non-linearity whose output is h, in place."""
        activation.backward_(cotangent, h)

    @staticmethod
    def transform(univariate: Univariate, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """The univariate map of x (D, N), given θ (D·P, N): u and log|∂u/∂x| (D, N)."""
        return univariate.forward(x, per_parameter(theta, univariate.parameters))

    @staticmethod
    def transform_backward(
        univariate: Univariate,
        x: Tensor,
        theta: Tensor,
        image: tuple[Tensor, Tensor],
        gradients: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """The cotangents of x (D, N) and θ (D·P, N) from those of u (D, N) and of log_det (N,)."""
        grad_x, grad_theta = univariate.backward(x, per_parameter(theta, univariate.parameters), image, gradients)
        return grad_x, torch.stack(grad_theta, dim=1).flatten(0, 1)


def pointwise(values: Tensor, univariate: Univariate | None = None) -> Any:
    """The way that suits these values (units, N), and this map if it will be asked for."""
    kernels = compiled.of(values, univariate) if values.numel() <= COMPILED else None
    return kernels.pointwise if kernels else TorchPointwise
