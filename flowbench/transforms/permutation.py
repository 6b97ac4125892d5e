"""A permutation of the columns as a transform."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from flowbench.transforms.plan import Orders, PermutationPlan
from flowbench.transforms.transform import Pair, Transform

_PLAN = PermutationPlan()


class Permutation(Transform):
    """u = x with its columns in another order; log_det = 0."""

    order: Tensor
    back: Tensor

    def __init__(self, order: Tensor) -> None:
        super().__init__()
        # saved with the weights: an order is part of the model
        self.register_buffer("order", order)
        self.register_buffer("back", order.argsort(), persistent=False)

    @classmethod
    def reverse(cls, dim: int) -> Permutation:
        """Last column first: what MAF puts between its transforms."""
        return cls(torch.arange(dim - 1, -1, -1))

    @classmethod
    def random(cls, dim: int) -> Permutation:
        """Any order, by torch's generator."""
        return cls(torch.randperm(dim))

    def forward(self, x: Tensor) -> Pair:
        """x (N, D) to (x in the new order, 0)."""
        return x[:, self.order], x.new_zeros(len(x))

    def inverse(self, u: Tensor) -> Pair:
        """u (N, D) to (u in the old order, 0)."""
        return u[:, self.back], u.new_zeros(len(u))

    @property
    def plan(self) -> PermutationPlan:
        """One for all: the order is among the constants."""
        return _PLAN

    def weights(self) -> list[Tensor]:
        """There are none."""
        return []

    def constants(self) -> Orders:
        """The order, and the order that undoes it."""
        return Orders(self.order, self.back)

    def _load_from_state_dict(self, *state: Any) -> None:
        super()._load_from_state_dict(*state)
        self.back.copy_(self.order.argsort())
