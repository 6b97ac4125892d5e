"""The masked autoregressive transform: one univariate map a column, its parameters computed from the columns before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from flowbench.transforms.made import MADE, ActivationName
from flowbench.transforms.substitution import per_parameter, substitute
from flowbench.transforms.transform import Pair, Transform
from flowbench.transforms.univariate import Univariate


class MaskedAutoregressive(Transform):
    """u_i = f(x_i; θ_i(x_<i)), with θ from a MADE (MAF paper, eqs. 3–5, when f is affine).

    Forward is one pass of the network. Inverse is D passes in the textbook, and one by substitution. Both are
    differentiable once; rows leave as a transposed view of columns, in which form the next transform wants them.
    """

    density_passes = 1

    def __init__(
        self, dim: int, hidden: Sequence[int], univariate: Univariate, activation: ActivationName = "relu"
    ) -> None:
        super().__init__()
        self.conditioner = MADE(dim, hidden, univariate, activation)
        self.univariate = univariate
        self.sampling_passes = dim

    def forward(self, x: Tensor) -> Pair:
        """x (N, D) to (u, log_det): one pass."""
        made = self.conditioner
        if torch._C._are_functorch_transforms_active():  # they see through plain torch only
            u, log_derivative = self.univariate.forward(x, made(x))
            return u, log_derivative.sum(-1)
        if torch.is_grad_enabled():
            return _Forward.apply(made, x, made.flat)  # type: ignore[no-untyped-call]
        return _forward(made, x, made.flat)[:2]

    def inverse(self, u: Tensor) -> Pair:
        """u (N, D) to (x, log_det), by substitution."""
        return substitute(self.conditioner, u)

    def inverse_by_passes(self, u: Tensor) -> Pair:
        """The textbook inverse, D passes of the network: the reference that substitution is held against."""
        x = torch.zeros_like(u)
        for _ in range(self.conditioner.dim):
            # pass k makes column k final: it needs the k − 1 columns before it, which already are
            x, log_derivative = self.univariate.inverse(u, self.conditioner(x))
        return x, log_derivative.sum(-1)


def _forward(made: MADE, x: Tensor, flat: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """u (N, D), log_det (N,), and what the gradient needs, columns first: u, log|∂u/∂x| and the network's values."""
    values = made.run(x.t(), flat)
    u, log_derivative = made.univariate.forward(x.t(), per_parameter(values[-1], made.dim))
    return u.t(), log_derivative.sum(0), [u, log_derivative, *values]


class _Forward(Function):
    """Written out, because a small network would spend most of its time in autograd's bookkeeping."""

    @staticmethod
    def forward(ctx: Any, made: MADE, x: Tensor, flat: Tensor) -> Pair:
        u, log_det, saved = _forward(made, x, flat)
        ctx.made = made
        ctx.save_for_backward(flat, *saved)
        return u, log_det

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_u: Tensor, grad_log_det: Tensor) -> tuple[Tensor | None, ...]:
        made: MADE = ctx.made
        _, of_input, of_flat = ctx.needs_input_grad
        flat, u, log_derivative, *values = ctx.saved_tensors
        theta = per_parameter(values[-1], made.dim)
        image = u, log_derivative
        grad_x, grad_theta = made.univariate.backward(values[0], theta, image, (grad_u.t(), grad_log_det))
        outputs = torch.stack(grad_theta, dim=1).flatten(0, 1)
        cotangents = made.cotangents(values, flat, outputs, of_input)
        grad_flat = made.gradient(values, cotangents) if of_flat else None
        return None, grad_x.add_(cotangents[-1]).t() if of_input else None, grad_flat
