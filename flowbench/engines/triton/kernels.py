"""Substitution in one CUDA kernel each way, by Triton, which comes with torch there.

On a GPU a step of a few units is all launch and no arithmetic, so nothing is launched: each program carries a tile of
rows through all D steps. What earlier blocks contribute comes in by matrix products on tensor cores, in single
precision with three products of TF32 in place of one, which is as exact to some 1e-6.

``values`` (units of all levels, N) holds the levels one below the other, the input first; ``visible``, ``starts`` and
``flat`` are those of `MaskedPlan` and `Packing.places`.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def add_product(
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
def tanh(x):
    """tanh(x), by an exponential that cannot overflow."""
    small = tl.exp(-2 * tl.abs(x))
    size = (1 - small) / (1 + small)
    return tl.where(x < 0, -size, size)


@triton.jit
def scale_units(
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
            x = tanh(x) if TANH else tl.where(x < 0, 0, x)  # NaN stays
        tl.store(values + at, x, mask=inside)
    tl.debug_barrier()


@triton.jit
def log_scale(raw, GAIN: tl.constexpr, BOUND: tl.constexpr):
    """α and ∂α/∂raw of the affine map."""
    if BOUND is None:
        value, slope = raw * GAIN, tl.zeros_like(raw) + GAIN
    else:
        squashed = tanh(raw * (GAIN / BOUND))
        value, slope = squashed * BOUND, GAIN * (1 - squashed * squashed)
    return value, slope


@triton.jit
def inverse(
    u, values, flat, starts, visible, log_det, dim, rows, block,
    LAYERS: tl.constexpr, TANH: tl.constexpr, GAIN: tl.constexpr, BOUND: tl.constexpr,
    UNITS: tl.constexpr, KNOWN: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """From u (D, N): the values of all levels, preset with biases, and log_det (N,)."""
    n = tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside = n < rows
    total = tl.zeros((TILE,), dtype=values.dtype.element_ty)
    last_hidden, outputs = visible + (LAYERS - 1) * (dim + 1), visible + LAYERS * (dim + 1)
    for start in range(0, dim, block):
        stop = min(start + block, dim)
        for level in tl.static_range(LAYERS):
            below, own = visible + level * (dim + 1), visible + (level + 1) * (dim + 1)
            first, last = tl.load(own + start), tl.load(own + stop)
            lo, hi = tl.load(below), tl.load(below + start)
            add_product(values, flat, starts, first, last, lo, hi, n, rows, False, UNITS, KNOWN, TILE)
        for step in range(start, stop):
            first, last = tl.load(outputs + step), tl.load(outputs + step + 1)
            lo, hi = tl.load(last_hidden + start), tl.load(last_hidden + step)
            add_product(values, flat, starts, first, last, lo, hi, n, rows, False, UNITS, KNOWN, TILE)
            theta = values + first * rows + n
            shift, raw = tl.load(theta, mask=inside, other=0), tl.load(theta + rows, mask=inside, other=0)
            scale, _ = log_scale(raw, GAIN, BOUND)
            column = tl.cast(step, tl.int64) * rows + n
            x = tl.load(u + column, mask=inside, other=0) * tl.exp(scale) + shift
            tl.store(values + column, x, mask=inside)
            total += scale
            tl.debug_barrier()
            for level in tl.static_range(LAYERS - 1):
                below, own = visible + level * (dim + 1), visible + (level + 1) * (dim + 1)
                first, last = tl.load(own + step), tl.load(own + step + 1)
                lo, hi = tl.load(below + start), tl.load(below + step + 1)
                add_product(values, flat, starts, first, last, lo, hi, n, rows, False, UNITS, KNOWN, TILE)
                scale_units(values, values, first, last, n, rows, False, TANH, UNITS, TILE)
    tl.store(log_det + n, total, mask=inside)


@triton.jit
def gradient(
    u, values, cotangents, flat, starts, visible, grad_log_det, grad_u, dim, rows, block,
    LAYERS: tl.constexpr, TANH: tl.constexpr, GAIN: tl.constexpr, BOUND: tl.constexpr,
    UNITS: tl.constexpr, KNOWN: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """The cotangents of all levels, preset with those of x and else zero, and grad_u (D, N)."""
    n = tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside = n < rows
    from_log_det = tl.load(grad_log_det + n, mask=inside, other=0)
    for done in range(0, dim, block):
        stop = dim - done
        start = max(stop - block, 0)
        for layer in tl.static_range(LAYERS):
            above, own = visible + (LAYERS - layer) * (dim + 1), visible + (LAYERS - layer - 1) * (dim + 1)
            first, last = tl.load(own + start), tl.load(own + stop)
            lo, hi = tl.load(above + stop), tl.load(above + dim)
            add_product(cotangents, flat, starts, first, last, lo, hi, n, rows, True, UNITS, KNOWN, TILE)
        for back in range(1, stop - start + 1):
            step = stop - back
            for layer in tl.static_range(LAYERS):
                above, own = visible + (LAYERS - layer) * (dim + 1), visible + (LAYERS - layer - 1) * (dim + 1)
                first, last = tl.load(own + step), tl.load(own + step + 1)
                # outputs see only columns before their own
                lo, hi = tl.load(above + step + (0 if layer else 1)), tl.load(above + stop)
                add_product(cotangents, flat, starts, first, last, lo, hi, n, rows, True, UNITS, KNOWN, TILE)
                if layer + 1 < LAYERS:
                    scale_units(cotangents, values, first, last, n, rows, True, TANH, UNITS, TILE)
            outputs = tl.load(visible + LAYERS * (dim + 1) + step) * rows + n
            raw = tl.load(values + outputs + rows, mask=inside, other=0)
            log_scale_here, slope = log_scale(raw, GAIN, BOUND)
            column = tl.cast(step, tl.int64) * rows + n
            scale = tl.exp(log_scale_here)
            along = tl.load(cotangents + column, mask=inside, other=0)
            scaled = tl.load(u + column, mask=inside, other=0) * scale
            tl.store(cotangents + outputs, along, mask=inside)
            tl.store(cotangents + outputs + rows, (along * scaled + from_log_det) * slope, mask=inside)
            tl.store(grad_u + column, along * scale, mask=inside)
            tl.debug_barrier()
