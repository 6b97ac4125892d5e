"""Substitution: the inverse of a masked autoregressive transform for the arithmetic of half a pass, not D passes.

The textbook inverse of u_i = f(x_i; θ_i(x_<i)) runs the whole network D times and keeps one column of each run. But
with units sorted by degree every weight matrix is block lower triangular: once x_1..x_d are known, the hidden units of
degree d are known for good, and with them θ_{d+1} and x_{d+1}. So each weight is used once, in D short steps. It is
forward substitution with a triangular matrix that happens to be a network, and it is blocked as a triangular solve is:
what earlier blocks contribute comes in with one matrix product a layer.

Backward is the same algorithm on the transposed network. With a = inverse(b), cotangents ḡ_a of a and ḡ_ℓ of log_det,
A_i the total cotangent of a_i:  A_i = ḡ_a,i + network back-propagation of θ̄_j, j > i, where
θ̄_j = A_j·∂a_j/∂θ_j + ḡ_ℓ·∂ℓ_j/∂θ_j.  That is triangular from column D down to 1. It leaves the cotangents of every
layer behind, so the parameters' gradients are one more matrix product a layer, and no graph of D steps is ever kept.

Columns are rows of memory here (features first): each step reads and writes contiguous slices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from flowbench.transforms import compiled
from flowbench.transforms.pointwise import partials, per_parameter
from flowbench.transforms.transform import Pull

if TYPE_CHECKING:
    from flowbench.transforms.made import MADE

BLOCK = 32
"""Columns in a block of torch's steps. Smaller: more large products. Larger: more of the work in short steps."""


class Level:
    """The units of one layer in the order in which the steps 0..D−1 find them; (start, stop) gives their slice.

    ``steps`` (units,) says which step finds each unit: ascending, or descending where the steps run backwards.
    """

    def __init__(self, steps: Tensor, dim: int, descending: bool) -> None:
        found = torch.searchsorted(steps.sort().values, torch.arange(dim + 1))
        self.before: list[int] = (len(steps) - found if descending else found).tolist()
        self._descending = descending

    def __call__(self, start: int, stop: int) -> slice:
        """The slice of the units that the steps from start to before stop find."""
        if self._descending:
            return slice(self.before[stop], self.before[start])
        return slice(self.before[start], self.before[stop])


class Levels(list[Level]):
    """All levels of one direction; ``before`` (levels, D + 1) has in one array where their units begin."""

    def __init__(self, levels: Iterable[Level]) -> None:
        super().__init__(levels)
        self.before = np.array([level.before for level in self])


class Schedule:
    """Which units each step finds, in the inverse and in its gradient, from the degrees of the levels of a MADE.

    Levels run from the input to the outputs, which are taken column by column. In the inverse, step i finds the hidden
    units of degree i, the outputs for column i (counted from 0) and that column. In the gradient, where levels run from
    the outputs to the input, step i finds the hidden units of degree D − i and the cotangents of column D − 1 − i.
    """

    def __init__(self, hidden: Sequence[Tensor], dim: int, parameters: int) -> None:
        columns = torch.arange(dim)
        outputs = columns.repeat_interleave(parameters)
        there = [columns, *hidden, outputs]
        back = [dim - 1 - outputs, *(dim - degrees for degrees in reversed(hidden)), dim - 1 - columns]
        self.inverse = Levels(Level(steps, dim, descending=False) for steps in there)
        self.gradient = Levels(Level(steps, dim, descending=True) for steps in back)


Values = Sequence[Tensor]
"""What units hold, one tensor (units, N) a level."""

Steps = Callable[[int, int, Sequence[Tensor]], None]
"""The sequential part: all steps from start to before stop, when what lies before start is known and added.

The tensors are the matrices, layer by layer, by which the steps' own units see each other.
"""


class _Upwards:
    """The layers of a MADE as the inverse runs through them, from the input to the outputs."""

    def __init__(self, made: MADE, flat: Tensor) -> None:
        self.levels = made.schedule.inverse
        self._layers = list(zip(made.layers, made.unpack(flat)[0], strict=True))

    def add(self, index: int, units: slice, known: slice, values: Values) -> None:
        """Add to ``units`` of the next level what the ``known`` ones of level ``index`` contribute."""
        layer, weights = self._layers[index]
        for rows, columns, piece in layer.pieces(weights, units, known):
            values[index + 1][rows].addmm_(piece, values[index][columns])

    def block(self, index: int, units: slice, known: slice) -> Tensor:
        """The matrix by which ``units`` of the next level see the ``known`` ones of level ``index``."""
        layer, weights = self._layers[index]
        return layer.block(weights, units, known)


class _Downwards:
    """The transposed layers as the gradient runs through them, from the outputs to the input."""

    def __init__(self, made: MADE, flat: Tensor) -> None:
        self.levels = made.schedule.gradient
        self._layers = list(zip(made.layers, made.unpack(flat)[0], strict=True))[::-1]

    def add(self, index: int, units: slice, known: slice, values: Values) -> None:
        """As ``_Upwards.add``."""
        layer, weights = self._layers[index]
        for rows, columns, piece in layer.pieces(weights, known, units):
            values[index + 1][columns].addmm_(piece.t(), values[index][rows])

    def block(self, index: int, units: slice, known: slice) -> Tensor:
        """As ``_Upwards.block``."""
        layer, weights = self._layers[index]
        return layer.block(weights, known, units).t()


def _solve(dim: int, block: int, network: _Upwards | _Downwards, values: Values, steps: Steps) -> None:
    """Run a network whose input is found on the way, in place.

    values[0] is the input, (units, N); values[l + 1] gathers layer l's product with values[l] on top of what it is
    preset with (biases, say). ``steps`` completes a block of columns in all of them.
    """
    levels = network.levels
    layers = range(len(values) - 1)
    for start in range(0, dim, block):
        stop = min(start + block, dim)
        for index in layers if start else ():
            network.add(index, levels[index + 1](start, stop), levels[index](0, start), values)
        steps(start, stop, [network.block(i, levels[i + 1](start, stop), levels[i](start, stop)) for i in layers])


def _torch_steps(
    levels: Sequence[Level],
    values: Values,
    activate: Callable[[int, slice], None],
    solve_column: Callable[[slice, slice], None],
) -> Steps:
    """The steps in torch's calls: ``activate(level, slice)`` completes hidden units, ``solve_column`` the input."""
    last = len(values) - 2

    def run(start: int, stop: int, weights: Sequence[Tensor]) -> None:
        origins = [level(start, stop).start for level in levels]
        for step in range(start, stop):
            for index, weight in enumerate(weights):
                units = levels[index + 1](step, step + 1)
                fresh = levels[index](start, step if index == 0 else step + 1)
                if units.start == units.stop:
                    continue
                if fresh.start != fresh.stop:
                    own = weight[_less(units, origins[index + 1]), _less(fresh, origins[index])]
                    values[index + 1][units].addmm_(own, values[index][fresh])
                if index < last:
                    activate(index + 1, units)
            solve_column(levels[0](step, step + 1), levels[-1](step, step + 1))

    return run


def _less(units: slice, origin: int) -> slice:
    return slice(units.start - origin, units.stop - origin)


def _run_forward(made: MADE, u: Tensor, flat: Tensor) -> list[Tensor]:
    """All levels' values, features first: x (D, N), the hidden activations, θ (D·P, N)."""
    dim, rows = u.shape
    biases = made.unpack(flat)[1]
    values = [torch.empty_like(u), *(bias.new_empty(len(bias), rows).copy_(bias[:, None]) for bias in biases)]
    theta = values[-1].unflatten(0, (dim, -1))

    def solve_column(column: slice, _: slice) -> None:
        i = column.start
        values[0][i] = made.univariate.inverse(u[i], theta[i].unbind(0))[0]

    def activate(level: int, at: slice) -> None:
        made.activation.apply_(values[level][at])

    network = _Upwards(made, flat)
    if kernels := compiled.of(u, made.univariate):
        before, activation = network.levels.before, made.activation.name
        steps = kernels.blocks.inverse_steps(u, values, before, activation, made.univariate)
        _solve(dim, kernels.blocks.block(dim), network, values, steps)
    else:
        _solve(dim, BLOCK, network, values, _torch_steps(network.levels, values, activate, solve_column))
    return values


def _run_backward(
    made: MADE, flat: Tensor, hidden: Sequence[Tensor], grad_a: Tensor, da: Tensor, from_log_det: Tensor
) -> list[Tensor]:
    """Cotangents of all levels from the outputs down, features first: θ̄ (D·P, N), the hidden ones', A (D, N).

    ``da`` is ∂a/∂θ and ``from_log_det`` is ḡ_ℓ·∂ℓ/∂θ, both (D·P, N).
    """
    rows = grad_a.shape[1]
    values = [from_log_det.clone(), *(grad_a.new_zeros(len(h), rows) for h in reversed(hidden)), grad_a.clone()]
    slopes = [made.activation.slope(h) for h in reversed(hidden)]

    def activate(level: int, at: slice) -> None:
        values[level][at] *= slopes[level - 1][at]

    def solve_column(outputs: slice, column: slice) -> None:
        values[0][outputs].addcmul_(da[outputs], values[-1][column])

    network = _Downwards(made, flat)
    if kernels := compiled.of(grad_a, made.univariate):
        steps = kernels.blocks.gradient_steps(da, slopes, values, network.levels.before)
        _solve(made.dim, kernels.blocks.block(made.dim), network, values, steps)
    else:
        _solve(made.dim, BLOCK, network, values, _torch_steps(network.levels, values, activate, solve_column))
    return values


def _invert(made: MADE, u: Tensor, flat: Tensor) -> tuple[Tensor, list[Tensor]]:
    """log_det (N,) and the values of all levels, the first of them x (D, N), from u (D, N)."""
    if fused := compiled.on_gpu(u, made.univariate):
        return fused.invert(made, u)
    kernels = compiled.of(u, made.univariate)
    if kernels and kernels.small.suits(made, u):
        x, log_det, values = kernels.small.invert(made, u)
        return log_det, [x, *torch.split_with_sizes(values, made.level_sizes)]
    values = _run_forward(made, u, flat)
    _, log_derivative = made.univariate.inverse(u, per_parameter(values[-1], made.univariate.parameters))
    return log_derivative.sum(0), values


def substitute(made: MADE, u: Tensor) -> tuple[Tensor, Tensor, Pull]:
    """Invert the autoregressive transform that ``made`` conditions: u (D, N) to x (D, N), log|det ∂x/∂u| (N,).

    With the vector–Jacobian product there: the gradients of u and of the network's parameters.
    """
    flat = made.flat.detach()
    log_det, values = _invert(made, u, flat)

    def pull(grad_x: Tensor, grad_log_det: Tensor, out: Sequence[Tensor]) -> Tensor:
        if fused := compiled.on_gpu(u, made.univariate):
            grad_u, cotangents = fused.gradient(made, u, values, grad_x, grad_log_det)
        else:
            da_du, da, dl_du, dl = partials(made.univariate, u, values[-1])
            cotangents = _run_backward(made, flat, values[1:-1], grad_x, da, dl * grad_log_det)
            grad_u = cotangents[-1] * da_du + grad_log_det * dl_du
        made.gradient(values, cotangents, out[0])
        return grad_u

    return values[0], log_det, pull
