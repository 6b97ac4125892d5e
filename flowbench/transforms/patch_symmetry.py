"""The symmetries of a square patch as transforms."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowbench.transforms.transform import Pair, Transform


class PatchSymmetry(Transform):
    """A square patch turned or mirrored; log_det = 0.

    A row (s² − 1,) has all pixels but the last, minus the mean of all; the last is minus their sum. ``order`` (s²,)
    says which pixel goes to each place.
    """

    order: Tensor
    back: Tensor

    def __init__(self, order: Tensor) -> None:
        super().__init__()
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", order.argsort(), persistent=False)

    @classmethod
    def all_of(cls, dim: int) -> list[PatchSymmetry]:
        """The eight of a patch of ``dim`` + 1 pixels, the one that changes nothing first.

        Raises:
            ValueError: so many pixels are no square.
        """
        side = math.isqrt(dim + 1)
        if side * side != dim + 1:
            raise ValueError(f"{dim} columns and one more are no square patch")
        turned = [torch.arange(dim + 1).view(side, side).rot90(turns) for turns in range(4)]
        return [cls(view.flatten()) for view in [*turned, *(each.t() for each in turned)]]

    def forward(self, x: Tensor) -> Pair:
        """x (N, D) to (the patch seen in the other way, 0)."""
        return self._reordered(x, self.order)

    def inverse(self, u: Tensor) -> Pair:
        """u (N, D) to (the patch as it was, 0)."""
        return self._reordered(u, self.back)

    def _reordered(self, x: Tensor, order: Tensor) -> Pair:
        whole = torch.cat([x, -x.sum(1, keepdim=True)], 1)
        return whole[:, order[:-1]], x.new_zeros(len(x))
