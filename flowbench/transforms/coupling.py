"""The affine coupling transform of RealNVP: half of the columns pass, and say how the other half moves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from flowbench.transforms.transform import Pair, Transform
from flowbench.transforms.univariate import Affine


class _Linear(nn.Linear):
    """Initialised as the MAF paper's networks are: N(0, 1)/√(fan-in + 1), zero bias."""

    def __init__(self, inputs: int, outputs: int, fan_in: int) -> None:
        self.fan_in = fan_in
        super().__init__(inputs, outputs)

    def reset_parameters(self) -> None:
        with torch.no_grad():  # torch's own would warn of a matrix without inputs, which D = 1 gives
            self.weight.copy_(torch.randn_like(self.weight) / (self.fan_in + 1) ** 0.5)
            self.bias.zero_()


def _network(dim: int, inputs: int, hidden: Sequence[int], outputs: int, activation: type[nn.Module]) -> nn.Sequential:
    """A fully connected network; nothing follows the last layer."""
    layers: list[nn.Module] = []
    for index, (before, after) in enumerate(pairwise([inputs, *hidden, outputs])):
        # the paper's code feeds all D columns, those of the other half as zeros, and they count as fan-in
        layers += [_Linear(before, after, fan_in=before if index else dim), activation()]
    return nn.Sequential(*layers[:-1])


class AffineCoupling(Transform):
    """x_B to u_B = (x_B − t(x_A))·exp(−s(x_A)), x_A unchanged (Dinh et al. 2017, eqs. 4–8; sign and order as MAF's).

    A are the columns (counted from 0) of one parity, B the others. Scale and translation have a network each, with tanh
    and relu, as in the MAF paper's experiments. ``bound`` limits the log-scale as in ``Affine``.
    """

    density_passes = 1
    sampling_passes = 1
    passed: Tensor
    moved: Tensor

    def __init__(self, dim: int, hidden: Sequence[int], parity: int, bound: float | None = None) -> None:
        super().__init__()
        columns = torch.arange(dim)
        self.register_buffer("passed", columns[columns % 2 == parity], persistent=False)
        self.register_buffer("moved", columns[columns % 2 != parity], persistent=False)
        self.univariate = Affine(bound)
        self.scale = _network(dim, len(self.passed), hidden, len(self.moved), nn.Tanh)
        self.translation = _network(dim, len(self.passed), hidden, len(self.moved), nn.ReLU)

    def forward(self, x: Tensor) -> Pair:
        """x (N, D) to (u, log_det)."""
        passed = x[:, self.passed]
        moved, log_derivative = self.univariate.forward(x[:, self.moved], self._theta(passed))
        return self._merge(passed, moved), log_derivative.sum(-1)

    def inverse(self, u: Tensor) -> Pair:
        """u (N, D) to (x, log_det)."""
        passed = u[:, self.passed]
        moved, log_derivative = self.univariate.inverse(u[:, self.moved], self._theta(passed))
        return self._merge(passed, moved), log_derivative.sum(-1)

    def _theta(self, passed: Tensor) -> tuple[Tensor, Tensor]:
        # the network's output is the log-scale s; ``Affine`` is told log-precisions, -2 s
        return self.translation(passed), -2 * self.scale(passed)

    def _merge(self, passed: Tensor, moved: Tensor) -> Tensor:
        merged = passed.new_empty(len(passed), passed.shape[1] + moved.shape[1])
        return merged.index_copy(1, self.passed, passed).index_copy(1, self.moved, moved)
