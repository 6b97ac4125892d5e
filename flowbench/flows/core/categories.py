"""An autoregressive mass of classes: p(c | g) = Π_i p(c_i | g, c_<i), each a softmax over the classes of its column."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, one_hot, relu

from flowbench.flows.core.flow import by_autograd

HIDDEN = 64
"""Units of its one hidden layer, or twice the columns: a table has a few of classes, which cost next to nothing."""


class Categories(nn.Module):
    """The probability of codes c (N, C), given (N, G): a masked network over classes as ones and zeros.

    It is MADE (Germain et al. 2015) whose columns are groups of units: the logits of column i see what is given and the
    classes of the columns before it alone. Each column's own frequencies are its biases, so that training begins with
    independent columns.

    Args:
        classes: of each of the C columns the number of its classes.
        given: of each given column the number of its classes, 0 if it is a number.
    """

    def __init__(self, classes: Sequence[int], given: Sequence[int] = ()) -> None:
        super().__init__()
        self.classes, self.given = tuple(classes), tuple(given)
        before = torch.tensor([0] * sum(count or 1 for count in given) + _degrees(self.classes, 1))
        units = max(HIDDEN, 2 * len(self.classes))
        hidden = torch.arange(units) % max(1, len(self.classes))  # of degree d: sees what is given and d columns
        logits = torch.tensor(_degrees(self.classes, 0))
        self.register_buffer("first_mask", (before <= hidden[:, None]).float(), persistent=False)
        self.register_buffer("last_mask", (hidden <= logits[:, None]).float(), persistent=False)
        self.first = nn.Parameter(torch.empty(units, len(before)))
        nn.init.kaiming_uniform_(self.first, a=math.sqrt(5))
        self.first_bias = nn.Parameter(torch.zeros(units))
        self.last = nn.Parameter(torch.zeros(len(logits), units))
        self.last_bias = nn.Parameter(torch.zeros(len(logits)))

    first_mask: Tensor
    last_mask: Tensor

    @torch.no_grad()
    def begin(self, codes: Tensor) -> None:
        """Have each column begin with its frequencies among these codes (N, C), one more of each class."""
        starts = accumulate(self.classes, initial=0)
        for place, (start, count) in enumerate(zip(starts, self.classes, strict=False)):
            counts = 1 + torch.bincount(codes[:, place].long(), minlength=count)
            self.last_bias[start : start + count] = (counts / counts.sum()).log().to(self.last_bias)

    def log_prob(self, codes: Tensor, given: Tensor | None = None) -> Tensor:
        """The log-probability (N,) of codes (N, C), given (N, G)."""
        logits = self._logits(codes, given).split(self.classes, dim=1)
        terms = [
            each.log_softmax(1).gather(1, codes[:, place : place + 1].long())[:, 0] for place, each in enumerate(logits)
        ]
        return torch.stack(terms).sum(0)

    @torch.no_grad()
    def draw(self, uniform: Tensor, given: Tensor | None = None) -> Tensor:
        """Codes (N, C) of uniform numbers (N, C), column by column."""
        codes = torch.zeros_like(uniform)
        for place, count in enumerate(self.classes):
            logits = self._logits(codes, given).split(self.classes, dim=1)[place]
            below = logits.softmax(1).cumsum(1)  # its last may be a little below 1
            codes[:, place] = (uniform[:, place : place + 1] >= below).sum(1).clamp(max=count - 1).to(codes)
        return codes

    def backpropagate(self, codes: Tensor, given: Tensor | None = None) -> Tensor:
        """Minus the mean log-probability (); its gradient is left in the parameters' ``grad``, in place."""
        return by_autograd(
            self, lambda: -self.log_prob(codes, given).mean() if len(codes) else self.log_prob(codes, given).sum()
        )

    def _logits(self, codes: Tensor, given: Tensor | None) -> Tensor:
        seen = torch.cat(list(self._features(codes, given)), 1)
        hidden = relu(linear(seen, self.first * self.first_mask, self.first_bias))
        return linear(hidden, self.last * self.last_mask, self.last_bias)

    def _features(self, codes: Tensor, given: Tensor | None) -> Iterator[Tensor]:
        for place, count in enumerate(self.given):
            assert given is not None
            column = given[:, place]
            yield one_hot(column.long(), count).to(codes) if count else column[:, None]
        for place, count in enumerate(self.classes):
            yield one_hot(codes[:, place].long(), count).to(codes)


def _degrees(classes: Sequence[int], first: int) -> list[int]:
    """The degree of each class of each column, counted from ``first``."""
    return [first + place for place, count in enumerate(classes) for _ in range(count)]
