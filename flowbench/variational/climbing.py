"""What models and objectives that are trained by draws have in common."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from flowbench.data.rows import Rows


class Warmed(nn.Module):
    """A model that counts its steps of training, since a weight in its loss grows with them."""

    taken: Tensor
    """Steps of training, ()."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("taken", torch.zeros(()))

    def warm(self, steps: int, least: float = 0.0) -> Tensor | float:
        """Count one more step; the weight, which grows linearly to one in so many (0: it is one at once)."""
        self.taken += 1
        return (self.taken / steps).clamp(least, 1) if steps else 1.0


class ByDraws:
    """The part of an objective that is the same wherever a model learns by its own draws; see `Objective`."""

    def begin(self, rows: Rows, validation: Rows) -> None:
        """Nothing has a closed form."""

    def settle(self, rows: Rows) -> None:
        """Nothing is taken of all rows."""


def first_not_finite(parts: Mapping[str, Tensor]) -> str | None:
    """The name of the first part that has something not finite."""
    return next((name for name, found in parts.items() if not found.isfinite().all()), None)
