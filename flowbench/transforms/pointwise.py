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
    from flowbench.transforms.made import Activation

COMPILED = 1 << 17
"""Numbers up to which the compiled way, on one thread, is the faster one."""


def per_parameter(theta: Tensor, dim: int) -> tuple[Tensor, ...]:
    """Outputs θ, column by column (D·P, N), as P views (D, N)."""
    return theta.view(dim, len(theta) // dim, theta.shape[1]).unbind(1)


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
        return univariate.forward(x, per_parameter(theta, len(x)))

    @staticmethod
    def transform_backward(
        univariate: Univariate,
        x: Tensor,
        theta: Tensor,
        image: tuple[Tensor, Tensor],
        gradients: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """The cotangents of x (D, N) and θ (D·P, N) from those of u (D, N) and of log_det (N,)."""
        grad_x, grad_theta = univariate.backward(x, per_parameter(theta, len(x)), image, gradients)
        return grad_x, torch.stack(grad_theta, dim=1).flatten(0, 1)


def pointwise(values: Tensor, univariate: Univariate) -> Any:
    """The way that suits these values (units, N)."""
    kernels = compiled.of(values, univariate) if values.numel() <= COMPILED else None
    return kernels.pointwise if kernels else TorchPointwise
