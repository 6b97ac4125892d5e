"""Substitution in blocks, and its gradient: what `flowbench.transforms.substitution` says, fast on any device.

It is blocked as a triangular solve is: what earlier blocks of columns contribute comes in with one matrix product a
layer, and only the small diagonal blocks are sequential.

Backward is the same algorithm on the transposed network. With a = inverse(b), cotangents ḡ_a of a and ḡ_ℓ of log_det,
A_i the total cotangent of a_i:  A_i = ḡ_a,i + network back-propagation of θ̄_j, j > i, where
θ̄_j = A_j·∂a_j/∂θ_j + ḡ_ℓ·∂ℓ_j/∂θ_j.  That is triangular from column D down to 1. It leaves the cotangents of every
level behind, so the parameters' gradients are one more matrix product a layer, and no graph of D steps is ever kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from flowbench.engines.eager import elementwise
from flowbench.transforms.packing import LayerWeights
from flowbench.transforms.plan import MaskedPlan


class Solved(NamedTuple):
    """What the inverse found: x (D, N), log_det (N,), all units' values (units, ≥ N), and the hidden units' slopes.

    Slopes are None where the activation's output tells them.
    """

    x: Tensor
    log_det: Tensor
    values: Tensor
    slopes: Tensor | None


Steps = Callable[[int, int], None]
"""The sequential part: the steps of the columns from start to before stop, when what lies outside has been added."""


class Substitution:
    """The units of all levels (units, N), which ``steps`` complete a block of columns at a time.

    ``values`` are the units' values, gathered on top of biases, for the inverse; their cotangents for its gradient.
    """

    def __init__(self, plan: MaskedPlan, flat: Tensor, values: Tensor) -> None:
        self.plan = plan
        self.visible = plan.visible.tolist()
        self.values = values
        self.layers: list[LayerWeights] = plan.network.packing.views(flat.detach())

    def invert(self, block: int, steps: Steps) -> None:
        """All columns from the first to the last; what earlier blocks contribute is added before each block."""
        dim = self.plan.dim
        for start in range(0, dim, block):
            stop = min(start + block, dim)
            if start:
                for level in range(1, self.plan.levels):
                    self._add_below(level, start, stop)
            steps(start, stop)

    def pull(self, block: int, steps: Steps) -> None:
        """All columns from the last to the first; what later blocks contribute is added before each block."""
        dim = self.plan.dim
        for start in range((dim - 1) // block * block, -1, -block):
            stop = min(start + block, dim)
            if stop < dim:
                for level in range(self.plan.levels - 2, -1, -1):
                    self._add_above(level, start, stop)
            steps(start, stop)

    def within(self, level: int, columns: tuple[int, int], below: tuple[int, int]) -> Tensor:
        """The matrix by which the units of ``level`` that belong to columns see those of ``below`` one level down."""
        rows, known = self._inside(level, *columns), self._inside(level - 1, *below)
        return self.layers[level - 1].block(rows, known)

    def units(self, level: int, start: int, stop: int) -> Tensor:
        """The values of the units of ``level`` that belong to the columns from start to before stop."""
        return self.values[self.visible[level][start] : self.visible[level][stop]]

    def hidden(self, level: int, column: int) -> slice:
        """The units of a hidden level that belong to a column, counted through the hidden levels."""
        bounds, first = self.visible[level], self.plan.hidden.start
        return slice(bounds[column] - first, bounds[column + 1] - first)

    def _inside(self, level: int, start: int, stop: int) -> slice:
        """The same units, counted within their level."""
        bounds = self.visible[level]
        return slice(bounds[start] - bounds[0], bounds[stop] - bounds[0])

    def _add_below(self, level: int, start: int, stop: int) -> None:
        top, bottom = self.visible[level][0], self.visible[level - 1][0]
        own, known = self._inside(level, start, stop), self._inside(level - 1, 0, start)
        for rows, columns, piece in self.layers[level - 1].pieces(own, known):
            below = self.values[bottom + columns.start : bottom + columns.stop]
            self.values[top + rows.start : top + rows.stop].addmm_(piece, below)

    def _add_above(self, level: int, start: int, stop: int) -> None:
        top, bottom = self.visible[level + 1][0], self.visible[level][0]
        known, own = self._inside(level + 1, stop, self.plan.dim), self._inside(level, start, stop)
        for rows, columns, piece in self.layers[level].pieces(known, own):
            above = self.values[top + rows.start : top + rows.stop]
            self.values[bottom + columns.start : bottom + columns.stop].addmm_(piece.t(), above)


def inverse_steps(work: Substitution, u: Tensor, slopes: Tensor | None) -> Steps:
    """The steps of the inverse in torch's calls. ``slopes`` (hidden units, N) takes those that no output tells."""
    plan, last = work.plan, work.plan.levels - 1
    activation, univariate = plan.network.activation, plan.univariate

    def run(start: int, stop: int) -> None:
        weights = [work.within(level, (start, stop), (start, stop)) for level in range(1, last + 1)]

        def gather(level: int, step: int, below: int) -> Tensor:
            """Add to the units of ``level`` of this column what those of columns start..below−1 contribute."""
            own, fresh = work.units(level, step, step + 1), work.units(level - 1, start, below)
            if len(own) and len(fresh):
                at = work.visible[level][step] - work.visible[level][start]
                own.addmm_(weights[level - 1][at : at + len(own), : len(fresh)], fresh)
            return own

        for step in range(start, stop):
            theta = gather(last, step, step)
            work.values[step] = univariate.inverse(u[step], theta.unbind(0))[0]
            for level in range(1, last):
                own = gather(level, step, step + 1)
                slope = elementwise.activate(own, activation) if len(own) else None
                if slope is not None and slopes is not None:
                    slopes[work.hidden(level, step)] = slope

    return run


def gradient_steps(work: Substitution, da: Tensor, slopes: Tensor) -> Steps:
    """The steps of the gradient in torch's calls: ``da`` is ∂a/∂θ (D·P, N), ``slopes`` those of the hidden units."""
    last = work.plan.levels - 1

    def run(start: int, stop: int) -> None:
        weights = [work.within(level, (start, stop), (start, stop)).t() for level in range(1, last + 1)]

        def gather(level: int, step: int) -> Tensor:
            """Add to the units of ``level`` of this column what those above that see them contribute."""
            first = step + (level + 1 == last)  # outputs see only columns before their own
            own, fresh = work.units(level, step, step + 1), work.units(level + 1, first, stop)
            if len(own) and len(fresh):
                at = work.visible[level][step] - work.visible[level][start]
                own.addmm_(weights[level][at : at + len(own), -len(fresh) :], fresh)
            return own

        for step in range(stop - 1, start - 1, -1):
            for level in range(last - 1, 0, -1):
                own = gather(level, step)
                own *= slopes[work.hidden(level, step)]
            along = gather(0, step)
            outputs, parameters = work.units(last, step, step + 1), work.plan.univariate.parameters
            outputs.addcmul_(da[step * parameters : (step + 1) * parameters], along)

    return run


def preset(plan: MaskedPlan, flat: Tensor, rows: int) -> Tensor:
    """The units of all levels (units, N), each with its bias; the input's are not set."""
    values = flat.new_empty(plan.units, rows)
    for level, layer in enumerate(plan.network.packing.views(flat.detach()), start=1):
        values[plan.level(level)] = layer.bias[:, None]
    return values


def empty_slopes(plan: MaskedPlan, values: Tensor) -> Tensor | None:
    """A place for the hidden units' slopes, or None where the activation's output tells them."""
    return None if plan.network.activation.slope is not None else torch.empty_like(values[plan.hidden])
