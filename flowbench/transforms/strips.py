"""Block lower triangular weight matrices, kept without most of what is zero: in horizontal strips.

With units sorted by degree the rows of a masked weight matrix see more and more of the level below. Cut into strips,
each as wide as its last row sees, it takes little more than half of the memory and of the arithmetic: of the product,
of its gradients, of the optimizer. Inside a strip a mask remains, on the few columns that only some of its rows see.

Values are features first, (units, N), so that a run of units is contiguous.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Strip:
    """Rows of a weight matrix: none of them sees a unit below from ``seen`` on, all see those before ``all_see``."""

    rows: slice
    all_see: int
    seen: int

    @property
    def shape(self) -> tuple[int, int]:
        """Of its weights."""
        return self.rows.stop - self.rows.start, self.seen

    @property
    def partial(self) -> tuple[int, int]:
        """The shape of its last columns, those that only some of its rows see."""
        return self.rows.stop - self.rows.start, self.seen - self.all_see


class Layer:
    """How the units of one level see those below: of equal or lower degree. It holds no weights, only where they lie.

    ``cuts`` are the degrees at which strips end. ``shape`` is that of the whole weight matrix, (out, in).
    """

    def __init__(self, in_degrees: Tensor, out_degrees: Tensor, cuts: Sequence[int]) -> None:
        self.shape = len(out_degrees), len(in_degrees)
        self._degrees = in_degrees, out_degrees
        seen = torch.searchsorted(in_degrees, out_degrees, right=True).tolist()
        ends = torch.searchsorted(out_degrees, torch.tensor(cuts)).tolist()
        bounds = [(a, b) for a, b in pairwise([0, *ends, len(out_degrees)]) if a < b]
        self.strips = [Strip(slice(a, b), seen[a], seen[b - 1]) for a, b in bounds]
        if len(self.strips) <= 1:  # not cut: nothing is left out
            self.strips = [Strip(slice(0, len(out_degrees)), min(seen, default=0), len(in_degrees))]
        self.sizes = [rows * seen for rows, seen in (strip.shape for strip in self.strips)]

    def mask(self) -> Tensor:
        """1 where a weight is allowed, (out, in); of floats, because a boolean multiplies 50 times slower on a CPU."""
        in_degrees, out_degrees = self._degrees
        return (out_degrees[:, None] >= in_degrees).to(torch.get_default_dtype())

    def partial_masks(self) -> Tensor:
        """What a gradient must be multiplied by: the mask of each strip's last columns, one after the other."""
        mask = self.mask()
        return torch.cat([mask[strip.rows, strip.all_see : strip.seen].flatten() for strip in self.strips])

    def pack(self, matrix: Tensor) -> Tensor:
        """A whole matrix (out, in) as the strips' weights, one after the other."""
        return torch.cat([matrix[strip.rows, : strip.seen].flatten() for strip in self.strips])

    def row_starts(self) -> Tensor:
        """Where among the packed weights each row begins (out,)."""
        lengths = [torch.full((strip.shape[0],), strip.seen) for strip in self.strips]
        ends = torch.cat(lengths).cumsum(0)
        return ends - torch.cat(lengths)

    def dense(self, weights: Sequence[Tensor]) -> Tensor:
        """The whole matrix (out, in)."""
        return torch.cat([torch.nn.functional.pad(w, (0, self.shape[1] - w.shape[1])) for w in weights])

    def forward(self, weights: Sequence[Tensor], below: Tensor) -> Tensor:
        """Weight @ below: (in, N) to (out, N)."""
        if len(weights) == 1:
            return torch.mm(weights[0], below)
        out = below.new_empty(self.shape[0], below.shape[1])
        for strip, weight in zip(self.strips, weights, strict=True):
            torch.mm(weight, below[: strip.seen], out=out[strip.rows])
        return out

    def backward(self, weights: Sequence[Tensor], cotangent: Tensor) -> Tensor:
        """Weightᵀ @ cotangent: (out, N) to (in, N)."""
        if len(weights) == 1:
            return torch.mm(weights[0].t(), cotangent)
        out = cotangent.new_empty(self.shape[1], cotangent.shape[1])
        *others, (strip, weight) = zip(self.strips, weights, strict=True)
        torch.mm(weight.t(), cotangent[strip.rows], out=out[: strip.seen])  # the last sees most
        out[strip.seen :].zero_()
        for strip, weight in others:
            out[: strip.seen].addmm_(weight.t(), cotangent[strip.rows])
        return out

    def gradient(self, out: Sequence[Tensor], masks: Sequence[Tensor], cotangent: Tensor, below: Tensor) -> None:
        """Cotangent @ belowᵀ into the strips ``out``, allowed weights only."""
        for strip, weight, mask in zip(self.strips, out, masks, strict=True):
            torch.mm(cotangent[strip.rows], below[: strip.seen].t(), out=weight)
            if mask.numel():
                weight[:, strip.all_see :] *= mask

    def pieces(self, weights: Sequence[Tensor], rows: slice, columns: slice) -> Iterator[tuple[slice, slice, Tensor]]:
        """What strips hold of the part of the matrix in ``rows`` and ``columns``: where each piece lies, and a view."""
        for strip, weight in zip(self.strips, weights, strict=True):
            top, bottom = max(rows.start, strip.rows.start), min(rows.stop, strip.rows.stop)
            right = min(columns.stop, strip.seen)
            if top < bottom and columns.start < right:
                inside = slice(top - strip.rows.start, bottom - strip.rows.start), slice(columns.start, right)
                yield slice(top, bottom), inside[1], weight[inside]

    def block(self, weights: Sequence[Tensor], rows: slice, columns: slice) -> Tensor:
        """The part of the matrix in ``rows`` and ``columns``: a view where one strip holds all of it, else a copy."""
        shape = rows.stop - rows.start, columns.stop - columns.start
        pieces = list(self.pieces(weights, rows, columns))
        if len(pieces) == 1 and pieces[0][2].shape == shape:
            return pieces[0][2]
        out = weights[0].new_zeros(shape)
        for at, seen, piece in pieces:
            out[at.start - rows.start : at.stop - rows.start, : seen.stop - seen.start] = piece
        return out
