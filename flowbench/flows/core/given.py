"""What a conditional density is given, as its conditioners see it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

WIDTH = 16
"""Numbers that a class becomes, at the most."""


def width(given: Given | None) -> int:
    """How many numbers a conditioner sees of what is given, C; 0 where nothing is."""
    return 0 if given is None else given.width


class Given(nn.Module):
    """Given columns (N, G) to a context (N, C): numbers as they are, classes as vectors that are learned.

    Args:
        classes: of each given column the number of its classes, which are counted from 0, or 0 if it is a number.
    """

    def __init__(self, classes: Sequence[int]) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.tables = nn.ModuleList(nn.Embedding(count, min(count, WIDTH)) for count in classes if count)

    @property
    def columns(self) -> int:
        """How many are given, G."""
        return len(self.classes)

    @property
    def width(self) -> int:
        """How many numbers they become, C."""
        return sum(min(count, WIDTH) if count else 1 for count in self.classes)

    @property
    def only_classes(self) -> int | None:
        """The place of the one column of classes among the given; None where there is none, or more than one."""
        places = [place for place, count in enumerate(self.classes) if count]
        return places[0] if len(places) == 1 else None

    def forward(self, given: Tensor) -> Tensor:
        """The context (N, C) of what is given (N, G)."""
        if not self.tables:  # hundreds of numbers may be given
            return given
        tables = iter(self.tables)
        parts = [
            next(tables)(given[:, column].long()) if count else given[:, column : column + 1]
            for column, count in enumerate(self.classes)
        ]
        return torch.cat(parts, 1)

    def pull(self, context: Tensor, gradient: Tensor) -> None:
        """Leave the gradient of the vectors in their ``grad``, from that of the context that ``forward`` gave."""
        for table in self.parameters():
            if table.grad is not None:
                table.grad.zero_()
        context.backward(gradient)
