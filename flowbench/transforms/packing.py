"""Where the weights of a network lie: all in one flat tensor, without most of what masks make zero.

With units sorted by degree a masked weight matrix is block lower triangular: its rows see more and more of the level
below. Cut into strips, each as wide as its last row sees, it takes little more than half of the memory and of the
arithmetic: of the product, of its gradients, of the optimizer. Inside a strip a mask remains, on the few columns that
only some of its rows see; those weights are zero, and stay zero because their gradients are masked.

One tensor holds all layers, because a small network would spend most of its time in calls of the optimizer's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from flowbench.tuning import STRIPPED, STRIPS


@dataclass(frozen=True)
class Strip:
    """Rows of a weight matrix: none of them sees a unit below from ``seen`` on, all see those before ``all_see``."""

    rows: slice
    all_see: int
    seen: int

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of its weights."""
        return self.rows.stop - self.rows.start, self.seen

    @property
    def partial(self) -> tuple[int, int]:
        """The shape of its last columns, those that only some of its rows see."""
        return self.rows.stop - self.rows.start, self.seen - self.all_see


class LayerPacking:
    """One layer: its units see those below of equal or lower degree. ``cuts`` are the degrees at which strips end."""

    def __init__(self, in_degrees: Tensor, out_degrees: Tensor, cuts: Sequence[int]) -> None:
        self.shape = len(out_degrees), len(in_degrees)
        self._degrees = in_degrees, out_degrees
        seen = self.sees().tolist()
        ends = torch.searchsorted(out_degrees, torch.tensor(cuts)).tolist()
        bounds = [(a, b) for a, b in pairwise([0, *ends, len(out_degrees)]) if a < b]
        strips = [Strip(slice(a, b), seen[a], seen[b - 1]) for a, b in bounds]
        if len(strips) <= 1:  # not cut: nothing is left out
            strips = [Strip(slice(0, len(out_degrees)), min(seen, default=0), len(in_degrees))]
        self.strips = tuple(strips)

    def sees(self) -> Tensor:
        """Of how many units below each unit sees, (out,): the first ones."""
        in_degrees, out_degrees = self._degrees
        return torch.searchsorted(in_degrees, out_degrees, right=True)

    def mask(self) -> Tensor:
        """1 where a weight is allowed, (out, in); of floats, because a boolean multiplies 50 times slower on a CPU."""
        in_degrees, out_degrees = self._degrees
        return (out_degrees[:, None] >= in_degrees).to(torch.get_default_dtype())

    def pieces(self, rows: slice, columns: slice) -> Iterator[tuple[int, slice, slice]]:
        """Which strips hold how much of the part of the matrix in ``rows`` and ``columns``: (strip, rows, columns)."""
        for index, strip in enumerate(self.strips):
            top, bottom = max(rows.start, strip.rows.start), min(rows.stop, strip.rows.stop)
            right = min(columns.stop, strip.seen)
            if top < bottom and columns.start < right:
                yield index, slice(top, bottom), slice(columns.start, right)


@dataclass(frozen=True)
class LayerWeights:
    """Views of a layer's strips and bias in a flat tensor."""

    packing: LayerPacking
    strips: list[Tensor]
    bias: Tensor

    def pieces(self, rows: slice, columns: slice) -> Iterator[tuple[slice, slice, Tensor]]:
        """What strips hold of the part of the matrix in ``rows`` and ``columns``: where it lies, and a view of it."""
        for index, held, seen in self.packing.pieces(rows, columns):
            first = self.packing.strips[index].rows.start
            yield held, seen, self.strips[index][held.start - first : held.stop - first, seen]

    def block(self, rows: slice, columns: slice) -> Tensor:
        """The part of the matrix in ``rows`` and ``columns``: a view where one strip holds all of it, else a copy."""
        shape = rows.stop - rows.start, columns.stop - columns.start
        pieces = list(self.pieces(rows, columns))
        if len(pieces) == 1 and pieces[0][2].shape == shape:
            return pieces[0][2]
        out = self.bias.new_zeros(shape)
        for at, seen, piece in pieces:
            out[at.start - rows.start : at.stop - rows.start, : seen.stop - seen.start] = piece
        return out

    def set_dense(self, weight: Tensor) -> None:
        """Copy the whole matrix (out, in) into the strips."""
        for strip, own in zip(self.packing.strips, self.strips, strict=True):
            own.copy_(weight[strip.rows, : strip.seen])

    def dense(self) -> Tensor:
        """The whole matrix (out, in)."""
        width = self.packing.shape[1]
        return torch.cat([torch.nn.functional.pad(strip, (0, width - strip.shape[1])) for strip in self.strips])


class Packing:
    """The layers of a network between levels of units whose ``degrees`` are sorted: weights, then biases, of each.

    A unit sees those of the level below whose degree is not above its own. ``cut`` is how many strips a layer has, and
    from how many weights on; by default what is fastest.
    """

    def __init__(self, degrees: Sequence[Tensor], cut: tuple[int, int] | None = None) -> None:
        self.degrees = degrees
        strips, stripped = cut or (STRIPS, STRIPPED)
        highest = max((int(level[-1]) for level in degrees if len(level)), default=0)
        cuts = [highest * strip // strips for strip in range(1, strips)]
        self.layers = tuple(
            LayerPacking(below, above, cuts if len(below) * len(above) >= stripped else [])
            for below, above in pairwise(degrees)
        )
        self._sizes: list[int] = []
        for layer in self.layers:
            self._sizes += [rows * seen for rows, seen in (strip.shape for strip in layer.strips)]
            self._sizes.append(layer.shape[0])
        self._mask_shapes = [strip.partial for layer in self.layers for strip in layer.strips]
        self._mask_sizes = [rows * columns for rows, columns in self._mask_shapes]
        self.size = sum(self._sizes)

    def views(self, flat: Tensor) -> list[LayerWeights]:
        """Each layer's weights and bias as views of what is laid out like ``flat`` (size,)."""
        parts = iter(torch.split_with_sizes(flat, self._sizes))
        return [
            LayerWeights(layer, [next(parts).view(strip.shape) for strip in layer.strips], next(parts))
            for layer in self.layers
        ]

    def pack(self, dense: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """The flat tensor of each layer's whole matrix (out, in) and bias (out,)."""
        parts: list[Tensor] = []
        for layer, (weight, bias) in zip(self.layers, dense, strict=True):
            parts += [weight[strip.rows, : strip.seen].flatten() for strip in layer.strips]
            parts.append(bias)
        return torch.cat(parts)

    def masks(self) -> Tensor:
        """What gradients must be multiplied by: of each strip's last columns, one after the other, flat."""
        found = []
        for layer in self.layers:
            mask = layer.mask()
            found += [mask[strip.rows, strip.all_see : strip.seen].flatten() for strip in layer.strips]
        return torch.cat(found)

    def mask_views(self, masks: Tensor) -> Iterator[Tensor]:
        """The masks strip by strip, as views of what ``masks`` gave."""
        parts = torch.split_with_sizes(masks, self._mask_sizes)
        return (part.view(shape) for part, shape in zip(parts, self._mask_shapes, strict=True))

    def runs(self, gap: int) -> list[tuple[int, int]]:
        """Parts (start, stop) of the flat tensor that hold all weights a mask allows, and all biases.

        Forbidden weights between two of them are left out where they are more than ``gap``.
        """
        found = [(0, 0)]
        position = 0
        for layer in self.layers:
            sees, parts = layer.sees().tolist(), []
            for strip in layer.strips:
                rows, held = strip.shape
                parts += [(position + row * held, sees[strip.rows.start + row]) for row in range(rows)]
                position += rows * held
            for start, size in [*parts, (position, layer.shape[0])]:
                if start - found[-1][1] <= gap:
                    found[-1] = found[-1][0], start + size
                else:
                    found.append((start, start + size))
            position += layer.shape[0]
        return found

    def places(self) -> tuple[Tensor, Tensor]:
        """For kernels that walk the network by themselves: where in the flat tensor to find what belongs to a unit.

        Units are numbered through all levels, the input first. The weight by which unit a sees unit b of the level
        below is ``flat[starts[a] + b]``, its bias ``flat[biases[a]]``; the input has neither (zeros).
        """
        below = self.layers[0].shape[1]
        starts, biases = [torch.zeros(below, dtype=torch.int64)], [torch.zeros(below, dtype=torch.int64)]
        position = first_below = 0
        for layer in self.layers:
            for strip in layer.strips:
                rows, seen = strip.shape
                starts.append(position - first_below + torch.arange(rows) * seen)
                position += rows * seen
            biases.append(position + torch.arange(layer.shape[0]))
            position += layer.shape[0]
            first_below += layer.shape[1]
        return torch.cat(starts), torch.cat(biases)
