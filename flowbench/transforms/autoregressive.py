"""The masked autoregressive transform: one univariate map a column, its parameters computed from the columns before."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flowbench.transforms import compiled
from flowbench.transforms.made import MADE
from flowbench.transforms.network import ActivationName
from flowbench.transforms.pointwise import pointwise
from flowbench.transforms.substitution import substitute
from flowbench.transforms.transform import Pair, Pull, WrittenTransform
from flowbench.transforms.univariate import Univariate


class MaskedAutoregressive(WrittenTransform):
    """u_i = f(x_i; θ_i(x_<i)), with θ from a MADE (MAF paper, eqs. 3–5, when f is affine).

    Forward is one pass of the network. Inverse is D passes in the textbook, and one by substitution.
    """

    density_passes = 1

    def __init__(
        self, dim: int, hidden: Sequence[int], univariate: Univariate, activation: ActivationName = "relu"
    ) -> None:
        super().__init__()
        self.conditioner = MADE(dim, hidden, univariate, activation)
        self.univariate = univariate
        self.sampling_passes = dim

    def tensors(self) -> list[Tensor]:
        """The conditioner's weights and biases."""
        return [self.conditioner.flat]

    def forward_vjp(self, x: Tensor) -> tuple[Tensor, Tensor, Pull]:
        """One pass of the network; its gradient another two."""
        made = self.conditioner
        kernels = compiled.of(x, self.univariate)
        if kernels and kernels.small.suits(made, x):
            return kernels.small.forward(made, x)
        theta, back = made.vjp(x)
        way = pointwise(x, self.univariate)
        u, log_derivative = way.transform(self.univariate, x, theta)

        def pull(grad_u: Tensor, grad_log_det: Tensor, out: Sequence[Tensor]) -> Tensor:
            image, gradients = (u, log_derivative), (grad_u, grad_log_det)
            grad_x, grad_theta = way.transform_backward(self.univariate, x, theta, image, gradients)
            return grad_x + back(grad_theta, out[0])

        return u, log_derivative.sum(0), pull

    def inverse_vjp(self, u: Tensor) -> tuple[Tensor, Tensor, Pull]:
        """By substitution, and its gradient by substitution on the transposed network."""
        return substitute(self.conditioner, u)

    def plain_forward(self, x: Tensor) -> Pair:
        """One pass of the network."""
        u, log_derivative = self.univariate.forward(x, self.conditioner(x))
        return u, log_derivative.sum(-1)

    def inverse_by_passes(self, u: Tensor) -> Pair:
        """The textbook inverse, D passes of the network: the reference that substitution is held against."""
        x = torch.zeros_like(u)
        for _ in range(self.conditioner.dim):
            # pass k makes column k final: it needs the k − 1 columns before it, which already are
            x, log_derivative = self.univariate.inverse(u, self.conditioner(x))
        return x, log_derivative.sum(-1)
