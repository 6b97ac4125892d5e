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
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from flowbench.engines.eager import elementwise
from flowbench.engines.eager.network import drop
from flowbench.engines.interface import Stage
from flowbench.transforms.packing import LayerWeights
from flowbench.transforms.plan import MaskedPlan
from flowbench.tuning import TORCH_BLOCK


class Solved(NamedTuple):
    """What the inverse found: x (D, N), log_det (N,), all units' values (units, ≥ N), and the hidden units' slopes.

    Slopes are None where the activation's output tells them.
    """

    x: Tensor
    log_det: Tensor
    values: Tensor
    slopes: Tensor | None


Steps = Callable[[int, int], None]
"""The sequential part: the steps from start to before stop, when what lies outside has been added."""

Solve = Callable[[int, Tensor], tuple[Tensor, Tensor]]
"""x_i (N,) of a column, given its parameters (P, N), and its term (N,) of log_det."""


class Substitution:
    """The units of all levels (units, N), which ``steps`` complete a block of them at a time.

    ``values`` are the units' values, gathered on top of biases, for the inverse; their cotangents for its gradient.
    """

    def __init__(self, plan: MaskedPlan, flat: Tensor, values: Tensor) -> None:
        self.plan = plan
        self.visible = plan.visible.tolist()
        self.values = values
        self.layers: list[LayerWeights] = plan.network.packing.views(flat.detach())

    def invert(self, block: int, steps: Steps) -> None:
        """All steps from the first to the last; what earlier blocks contribute is added before each block."""
        for start, stop in self._blocks(block):
            if start:
                for level in range(1, self.plan.levels):
                    self._add_below(level, start, stop)
            steps(start, stop)

    def pull(self, block: int, steps: Steps) -> None:
        """All steps from the last to the first; what later blocks contribute is added before each block."""
        for start, stop in reversed(self._blocks(block)):
            if stop < self.plan.steps:
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

    def _blocks(self, size: int) -> list[tuple[int, int]]:
        """The steps from … to before … of each block; a context is one by itself: its products are large."""
        first, count = self.plan.first, self.plan.steps
        return list(pairwise(sorted({0, *range(first, count, size), count})))

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
        known, own = self._inside(level + 1, stop, self.plan.steps), self._inside(level, start, stop)
        for rows, columns, piece in self.layers[level].pieces(known, own):
            above = self.values[top + rows.start : top + rows.stop]
            self.values[bottom + columns.start : bottom + columns.stop].addmm_(piece.t(), above)


def solved(plan: MaskedPlan, stage: Stage, rows: Tensor, solve: Solve) -> Solved:
    """The columns one after the other, as ``solve`` finds each; ``rows`` (D, N) are of their dtype and device."""
    values = preset(plan, stage.weights[0], rows.shape[1])
    if stage.context is not None:
        values[: plan.context] = stage.context.detach().t()
    slopes = empty_slopes(plan, values)
    work = Substitution(plan, stage.weights[0], values)
    log_det = rows.new_zeros(rows.shape[1])
    work.invert(TORCH_BLOCK, inverse_steps(work, solve, slopes, log_det))
    return Solved(values[plan.columns].clone(), log_det, values, slopes)


def inverse_steps(work: Substitution, solve: Solve, slopes: Tensor | None, log_det: Tensor) -> Steps:
    """The steps of the inverse in torch's calls, which add to ``log_det`` (N,).

    ``slopes`` (hidden units, N) takes those that no output tells.
    """
    plan, last = work.plan, work.plan.levels - 1
    sums = torch.empty_like(work.values[plan.hidden]) if plan.network.residual else None

    def run(start: int, stop: int) -> None:
        weights = [work.within(level, (start, stop), (start, stop)) for level in range(1, last + 1)]

        def gather(level: int, step: int, below: int) -> Tensor:
            """Add to the units of ``level`` of this step what those of steps start..below−1 contribute."""
            own, fresh = work.units(level, step, step + 1), work.units(level - 1, start, below)
            if len(own) and len(fresh):
                at = work.visible[level][step] - work.visible[level][start]
                own.addmm_(weights[level - 1][at : at + len(own), : len(fresh)], fresh)
            return own

        for step in range(start, stop):
            if step >= plan.first:
                theta = gather(last, step, step)
                work.values[work.visible[0][step]], term = solve(step - plan.first, theta)
                log_det.add_(term)
            for level in range(1, last):
                if len(own := gather(level, step, step + 1)):
                    _complete(work, level, step, own, sums, slopes)

    return run


def _complete(
    work: Substitution, level: int, step: int, own: Tensor, sums: Tensor | None, slopes: Tensor | None
) -> None:
    """The hidden units of a step from their sums: what blocks carry on, the non-linearity, dropout."""
    network, place = work.plan.network, work.hidden(level, step)
    if sums is not None and network.is_stream(level):
        own += sums[work.hidden(level - 2, step)] if level > 1 else 0
        sums[place] = own
    slope = elementwise.activate(own, network.activation)
    if network.drops(level):
        slope = drop(own, slope, network)
    if slopes is not None:
        slopes[place] = elementwise.slope_of(own, slope, network.activation)


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
                if work.plan.network.is_stream(level + 2):
                    own += work.units(level + 2, step, step + 1)
            along = gather(0, step)
            if step >= work.plan.first:
                outputs, parameters = work.units(last, step, step + 1), work.plan.univariate.parameters
                first = (step - work.plan.first) * parameters
                outputs.addcmul_(da[first : first + parameters], along)

    return run


def preset(plan: MaskedPlan, flat: Tensor, rows: int) -> Tensor:
    """The units of all levels (units, N), each with its bias; the input's are not set."""
    values = flat.new_empty(plan.units, rows)
    for level, layer in enumerate(plan.network.packing.views(flat.detach()), start=1):
        values[plan.level(level)] = layer.bias[:, None]
    return values


def empty_slopes(plan: MaskedPlan, values: Tensor) -> Tensor | None:
    """A place for the hidden units' slopes, or None where the activation's output tells them."""
    told = plan.network.activation.slope is not None and not plan.network.dropout
    return None if told else torch.empty_like(values[plan.hidden])
