"""The affine coupling transform of RealNVP: half of the columns pass, and say how the other half moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from flowbench.transforms.network import ActivationName, Network
from flowbench.transforms.pointwise import partials, per_parameter, pointwise
from flowbench.transforms.strips import Layer
from flowbench.transforms.transform import Pair, Pull, WrittenTransform
from flowbench.transforms.univariate import Affine


def _dense(sizes: Sequence[int], activation: ActivationName, dim: int) -> Network:
    """A network without masks: the inputs and all units have one degree."""
    layers = [Layer(torch.zeros(before), torch.zeros(after), []) for before, after in pairwise(sizes)]
    # the paper's code feeds all D columns, those of the other half as zeros, and they count as fan-in
    return Network(layers, activation, fan_in=dim)


def _theta(shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The networks' outputs as ``Affine`` wants them: scale's is the log-scale s, and that is told log-precisions."""
    return shift, -2 * scale


class AffineCoupling(WrittenTransform):
    """x_B to u_B = (x_B − t(x_A))·exp(−s(x_A)), x_A unchanged (Dinh et al. 2017, eqs. 4–8; sign and order as MAF's).

    A are the columns (counted from 0) of one parity, B the others. Scale and translation have a network each, with tanh
    and relu, as in the MAF paper's experiments. ``bound`` limits the log-scale as in ``Affine``.
    """

    density_passes = 1
    sampling_passes = 1
    passed: Tensor
    moved: Tensor
    merged: Tensor

    def __init__(self, dim: int, hidden: Sequence[int], parity: int, bound: float | None = None) -> None:
        super().__init__()
        columns = torch.arange(dim)
        passed, moved = columns[columns % 2 == parity], columns[columns % 2 != parity]
        self.register_buffer("passed", passed, persistent=False)
        self.register_buffer("moved", moved, persistent=False)
        self.register_buffer("merged", torch.cat([passed, moved]).argsort(), persistent=False)
        self.univariate = Affine(bound)
        sizes = [len(passed), *hidden, len(moved)]
        self.scale, self.translation = _dense(sizes, "tanh", dim), _dense(sizes, "relu", dim)

    def tensors(self) -> list[Tensor]:
        """The weights and biases of the scale network and of the translation network."""
        return [self.scale.flat, self.translation.flat]

    def forward_vjp(self, x: Tensor) -> tuple[Tensor, Tensor, Pull]:
        """One pass of the networks; its gradient another two."""
        passed, moved = self._part(x)
        theta, back = self._condition(passed)
        way = pointwise(moved, self.univariate)
        image = way.transform(self.univariate, moved, theta)

        def pull(grad_u: Tensor, grad_log_det: Tensor, out: Sequence[Tensor]) -> Tensor:
            grad_passed, grad_moved = self._part(grad_u)
            gradients = grad_moved, grad_log_det
            grad_moved, grad_theta = way.transform_backward(self.univariate, moved, theta, image, gradients)
            return self._merge(grad_passed + back(grad_theta, out), grad_moved)

        return self._merge(passed, image[0]), image[1].sum(0), pull

    def inverse_vjp(self, u: Tensor) -> tuple[Tensor, Tensor, Pull]:
        """As ``forward_vjp``: the networks see what passes."""
        passed, moved = self._part(u)
        theta, back = self._condition(passed)
        x, log_derivative = self.univariate.inverse(moved, per_parameter(theta, self.univariate.parameters))

        def pull(grad_x: Tensor, grad_log_det: Tensor, out: Sequence[Tensor]) -> Tensor:
            da_du, da, dl_du, dl = partials(self.univariate, moved, theta)
            grad_passed, grad_moved = self._part(grad_x)
            grad_each = grad_moved.repeat_interleave(self.univariate.parameters, 0)  # each parameter of a column
            grad_passed += back(da * grad_each + dl * grad_log_det, out)
            return self._merge(grad_passed, grad_moved * da_du + grad_log_det * dl_du)

        return self._merge(passed, x), log_derivative.sum(0), pull

    def plain_forward(self, x: Tensor) -> Pair:
        """As ``forward``."""
        passed, moved = x[:, self.passed], x[:, self.moved]
        theta = _theta(self.translation.plain(passed), self.scale.plain(passed))
        u, log_derivative = self.univariate.forward(moved, theta)
        return torch.cat([passed, u], 1)[:, self.merged], log_derivative.sum(-1)

    def _condition(self, passed: Tensor) -> tuple[Tensor, Callable[[Tensor, Sequence[Tensor]], Tensor]]:
        """θ (2·M, N) of the M columns that move, and the product from its cotangent to that of what passes."""
        scale, back_scale = self.scale.vjp(passed)
        shift, back_shift = self.translation.vjp(passed)

        def back(grad_theta: Tensor, out: Sequence[Tensor]) -> Tensor:
            grad_shift, grad_raw = per_parameter(grad_theta, self.univariate.parameters)
            return back_scale(-2 * grad_raw, out[0]) + back_shift(grad_shift.contiguous(), out[1])

        return torch.stack(_theta(shift, scale), 1).flatten(0, 1), back

    def _part(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.index_select(0, self.passed), x.index_select(0, self.moved)

    def _merge(self, passed: Tensor, moved: Tensor) -> Tensor:
        return torch.cat([passed, moved]).index_select(0, self.merged)
