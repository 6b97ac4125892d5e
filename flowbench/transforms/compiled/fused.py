"""Substitution in one CUDA kernel each way, by Triton, which comes with torch there.

On a GPU a step of a few units is all launch and no arithmetic, so nothing is launched: each program carries a tile of
rows through all D steps. What earlier blocks contribute comes in by matrix products on tensor cores, in single
precision with three products of TF32 in place of one, which is as exact to some 1e-6.

``values`` (units of all levels, N) holds the levels one below the other, the input first. ``before[l, s]`` says at
which of its rows the units of step s begin in level l, or, in the gradient, whose levels and steps run the other way,
where they end. The weight by which unit a sees a unit b of the level below is ``flat[starts[a] + b]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from torch import Tensor

if TYPE_CHECKING:
    from flowbench.transforms.made import MADE

BLOCK = 16
"""Columns between two rounds of large products."""

_SHAPE = {"UNITS": 16, "KNOWN": 32, "TILE": 32}
"""The least that tensor cores take, and with it the most programs: rows are few where steps are many."""


@triton.jit
def _add_product(
    values, flat, starts, first, last, lo, hi, n, rows, DOWN: tl.constexpr,
    UNITS: tl.constexpr, KNOWN: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Add to the units first..last−1 of a tile of rows what the units lo..hi−1 of the level before contribute."""
    for unit in range(first, last, UNITS):
        units = unit + tl.arange(0, UNITS)
        there = (units < last)[:, None]
        at = values + units.to(tl.int64)[:, None] * rows + n[None, :]
        inside = there & (n < rows)[None, :]
        total = tl.load(at, mask=inside, other=0)
        for k in range(lo, hi, KNOWN):
            known = k + tl.arange(0, KNOWN)
            seen = known < hi
            if DOWN:
                place = tl.load(starts + known, mask=seen, other=0)[None, :] + units[:, None]
            else:
                place = tl.load(starts + units, mask=units < last, other=0)[:, None] + known[None, :]
            weights = tl.load(flat + place, mask=there & seen[None, :], other=0)
            below = values + known.to(tl.int64)[:, None] * rows + n[None, :]
            below = tl.load(below, mask=seen[:, None] & (n < rows)[None, :], other=0)
            total = tl.dot(weights, below, total, input_precision="tf32x3", out_dtype=total.dtype)
        tl.store(at, total, mask=inside)
    # other threads wrote what comes next to be read
    tl.debug_barrier()


@triton.jit
def _tanh(x):
    small = tl.exp(-2 * tl.abs(x))
    size = (1 - small) / (1 + small)
    return tl.where(x < 0, -size, size)


@triton.jit
def _scale_units(
    values, factors, first, last, n, rows, DOWN: tl.constexpr, TANH: tl.constexpr,
    UNITS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Apply the non-linearity to the units first..last−1; or, to cotangents, its slope where its output is factors."""
    for unit in range(first, last, UNITS):
        units = unit + tl.arange(0, UNITS)
        at = units.to(tl.int64)[:, None] * rows + n[None, :]
        inside = (units < last)[:, None] & (n < rows)[None, :]
        x = tl.load(values + at, mask=inside, other=0)
        if DOWN:
            h = tl.load(factors + at, mask=inside, other=0)
            x = x * (1 - h * h) if TANH else tl.where(h > 0, x, 0)
        else:
            x = _tanh(x) if TANH else tl.maximum(x, 0)
        tl.store(values + at, x, mask=inside)
    tl.debug_barrier()


@triton.jit
def _log_scale(raw, BOUND: tl.constexpr):
    """α and ∂α/∂raw of the affine map."""
    if BOUND is None:
        value, slope = raw * -0.5, tl.zeros_like(raw) - 0.5
    else:
        squashed = _tanh(raw * (-0.5 / BOUND))
        value, slope = squashed * BOUND, -0.5 * (1 - squashed * squashed)
    return value, slope


@triton.jit
def _inverse(
    u, values, flat, starts, before, log_det, dim, rows, block,
    LAYERS: tl.constexpr, TANH: tl.constexpr, BOUND: tl.constexpr,
    UNITS: tl.constexpr, KNOWN: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """From u (D, N): the values of all levels, preset with biases, and log_det (N,)."""
    n = tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside = n < rows
    total = tl.zeros((TILE,), dtype=values.dtype.element_ty)
    for start in range(0, dim, block):
        stop = min(start + block, dim)
        for level in tl.static_range(LAYERS):
            own, above = before + level * (dim + 1), before + (level + 1) * (dim + 1)
            first, last = tl.load(above + start), tl.load(above + stop)
            lo, hi = tl.load(own), tl.load(own + start)
            _add_product(values, flat, starts, first, last, lo, hi, n, rows, False, UNITS, KNOWN, TILE)
        for step in range(start, stop):
            for level in tl.static_range(LAYERS):
                own, above = before + level * (dim + 1), before + (level + 1) * (dim + 1)
                first, last = tl.load(above + step), tl.load(above + step + 1)
                lo, hi = tl.load(own + start), tl.load(own + step + (1 if level else 0))
                _add_product(values, flat, starts, first, last, lo, hi, n, rows, False, UNITS, KNOWN, TILE)
                if level + 1 < LAYERS:
                    _scale_units(values, values, first, last, n, rows, False, TANH, UNITS, TILE)
            theta = values + tl.load(before + LAYERS * (dim + 1) + step) * rows + n
            shift, raw = tl.load(theta, mask=inside, other=0), tl.load(theta + rows, mask=inside, other=0)
            log_scale, _ = _log_scale(raw, BOUND)
            column = tl.cast(step, tl.int64) * rows + n
            x = tl.load(u + column, mask=inside, other=0) * tl.exp(log_scale) + shift
            tl.store(values + column, x, mask=inside)
            total += log_scale
            tl.debug_barrier()
    tl.store(log_det + n, total, mask=inside)


@triton.jit
def _gradient(
    u, values, cotangents, flat, starts, before, grad_log_det, grad_u, dim, rows, block,
    LAYERS: tl.constexpr, TANH: tl.constexpr, BOUND: tl.constexpr,
    UNITS: tl.constexpr, KNOWN: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """The cotangents of all levels, preset with those of x and else zero, and grad_u (D, N)."""
    n = tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside = n < rows
    from_log_det = tl.load(grad_log_det + n, mask=inside, other=0)
    for start in range(0, dim, block):
        stop = min(start + block, dim)
        for level in tl.static_range(LAYERS):
            own, below = before + level * (dim + 1), before + (level + 1) * (dim + 1)
            first, last = tl.load(below + stop), tl.load(below + start)
            lo, hi = tl.load(own + start), tl.load(own)
            _add_product(cotangents, flat, starts, first, last, lo, hi, n, rows, True, UNITS, KNOWN, TILE)
        for step in range(start, stop):
            for level in tl.static_range(LAYERS):
                own, below = before + level * (dim + 1), before + (level + 1) * (dim + 1)
                first, last = tl.load(below + step + 1), tl.load(below + step)
                lo, hi = tl.load(own + step + (1 if level else 0)), tl.load(own + start)
                _add_product(cotangents, flat, starts, first, last, lo, hi, n, rows, True, UNITS, KNOWN, TILE)
                if level + 1 < LAYERS:
                    _scale_units(cotangents, values, first, last, n, rows, True, TANH, UNITS, TILE)
            outputs = tl.load(before + step + 1) * rows + n
            raw = tl.load(values + outputs + rows, mask=inside, other=0)
            log_scale, slope = _log_scale(raw, BOUND)
            column = tl.cast(dim - 1 - step, tl.int64) * rows + n
            scale = tl.exp(log_scale)
            along = tl.load(cotangents + column, mask=inside, other=0)
            scaled = tl.load(u + column, mask=inside, other=0) * scale
            tl.store(cotangents + outputs, along, mask=inside)
            tl.store(cotangents + outputs + rows, (along * scaled + from_log_det) * slope, mask=inside)
            tl.store(grad_u + column, along * scale, mask=inside)
            tl.debug_barrier()


def try_out() -> None:
    """Invert the identity of one column; raises what stands in the way of doing that."""
    device = "cuda" if torch.cuda.is_available() else "cpu"  # there by the interpreter, in tests
    u, flat = torch.full((1, 1), 3.0, device=device), torch.zeros(4, device=device)
    starts, before = torch.zeros(3, dtype=torch.int64, device=device), torch.tensor([[0, 1], [1, 3]], device=device)
    values, log_det = torch.zeros(3, 1, device=device), torch.ones(1, device=device)
    kinds = {"LAYERS": 1, "TANH": False, "BOUND": None}
    _inverse[(1,)](u, values, flat, starts, before, log_det, 1, 1, BLOCK, **kinds, **_SHAPE)
    if float(values[0]) != 3 or float(log_det) != 0:
        raise RuntimeError("its kernels do not do what they should")


def invert(made: MADE, u: Tensor) -> tuple[Tensor, list[Tensor]]:
    """log_det (N,) and the values of all levels, the first of them x (D, N), from u (D, N)."""
    values = u.new_empty(made.dim + made.units, u.shape[1])
    levels = list(values.split_with_sizes([made.dim, *made.level_sizes]))
    for level, bias in zip(levels[1:], made.unpack(made.flat.detach())[1], strict=True):
        level.copy_(bias[:, None])
    log_det = u.new_empty(u.shape[1])
    _launch(_inverse, made, u, u, values, made.flat.detach(), made.weight_starts, made.step_starts[0], log_det)
    return log_det, levels


def gradient(
    made: MADE, u: Tensor, levels: Sequence[Tensor], grad_x: Tensor, grad_log_det: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """grad_u (D, N) and the cotangents of all levels, from the outputs down, given what ``invert`` made of u."""
    values = levels[0]._base
    assert values is not None
    cotangents, grad_u = torch.zeros_like(values), torch.empty_like(u)
    cotangents[: made.dim] = grad_x
    places = made.flat.detach(), made.weight_starts, made.step_starts[1]
    _launch(_gradient, made, u, u, values, cotangents, *places, grad_log_det.contiguous(), grad_u)
    return grad_u, list(cotangents.split_with_sizes([made.dim, *made.level_sizes]))[::-1]


def _launch(kernel: Any, made: MADE, rows: Tensor, *tensors: Tensor) -> None:
    dim, n = rows.shape
    bound = made.univariate.bound  # type: ignore[attr-defined]
    kinds = {"LAYERS": len(made.layers), "TANH": made.activation.name == "tanh", "BOUND": bound}
    with torch.cuda.device_of(rows):  # Triton takes the current one
        kernel[(triton.cdiv(n, _SHAPE["TILE"]),)](*tensors, dim, n, BLOCK, **kinds, **_SHAPE)
