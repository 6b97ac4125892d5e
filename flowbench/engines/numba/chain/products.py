"""The products of a network's level with the level below, on a tile of rows: forth, back, and the gradient.

Each stops where the mask does, but for the few units that are taken at once.
"""

from __future__ import annotations

from math import inf as INFINITY  # noqa: N812  # kernels take it for a constant

from numba import int64

from flowbench.engines.numba.chain.found import copy, fill, numbers, place, row_of, rows_of
from flowbench.engines.numba.chain.registers import BIASES, SUMS, ZEROS, copy_eight, group_of, product
from flowbench.engines.numba.elementary import like, size_of
from flowbench.engines.numba.tiles import BYTES
from flowbench.engines.numba.vectors import jit

PACKED, PACKED_ABOVE = 48, 256
"""Units below, and above, whose weights are packed at once: some lines of the cache of each row, and all of them half
of the second cache."""

PACKED_ROOM = PACKED * PACKED_ABOVE + 16 * PACKED
"""Numbers that they take."""


@jit
def gather(tile, chain, level, flat, units, known, begin, floor):
    """Add to the units (first, end) of a level what known ones (first, end) of the level below contribute.

    All that they see is known where its end is −1. Sums begin with ``begin``; no value is left below ``floor``.
    """
    if tile.width == 1:
        _gather_one(tile, chain, level, flat, units, known, begin, floor)
        return
    size, unit = size_of(tile.zero), units[0]
    below = place(tile, level.values_below + known[0]), tile.pitch
    while unit < units[1]:
        own = level.unit + unit
        rows = group_of(min(units[1], chain.ends[own]) - unit)
        count = (chain.sees[own + rows - 1] if known[1] < 0 else known[1]) - known[0]
        pitch = chain.starts[own + 1] - chain.starts[own] if rows > 1 else 0
        weights = flat + (chain.starts[own] + known[0]) * size, pitch, 1
        biases = flat + (level.bias + unit) * size
        out = place(tile, level.values + unit), tile.pitch
        product(tile.product, rows, out, weights, below, (begin, biases), count, tile.width, floor)
        unit += rows


def _gather_one(tile, chain, level, flat, units, known, begin, floor):
    """Four units at once: what they see is read once."""
    size, unit = size_of(floor), units[0]
    values, below = rows_of(tile, level.values, level.units), rows_of(tile, level.values_below, level.below)
    biases = numbers(flat + level.bias * size, level.units, floor)
    while unit < units[1]:
        own = level.unit + unit
        together = 4 if min(units[1], chain.ends[own]) - unit >= 4 else 1
        count = (chain.sees[own + together - 1] if known[1] < 0 else known[1]) - known[0]
        start = flat + (chain.starts[own] + known[0]) * size
        pitch = (chain.starts[own + 1] - chain.starts[own]) * size if together > 1 else 0
        seen, a = below[known[0] : known[0] + count], numbers(start, count, floor)
        b, c = numbers(start + pitch, count, floor), numbers(start + 2 * pitch, count, floor)
        d = numbers(start + 3 * pitch, count, floor)
        first, second, third, fourth = like(0, floor), like(0, floor), like(0, floor), like(0, floor)
        if together == 4:
            for k in range(len(seen)):
                first += a[k] * seen[k]
                second += b[k] * seen[k]
                third += c[k] * seen[k]
                fourth += d[k] * seen[k]
        else:
            for k in range(len(seen)):
                first += a[k] * seen[k]
        totals = first, second, third, fourth
        for other in range(together):
            total = totals[other] + (biases[unit + other] if begin == BIASES else values[unit + other])
            values[unit + other] = floor if total < floor else total
        unit += together


_gather_one = jit(_gather_one, reorder_sums=True)


@jit
def pull(tile, chain, level, flat, below, units, packed):
    """Add to the cotangents of units ``below`` (first, end) what those of ``units`` (first, end) above contribute.

    ``packed`` is memory for a block of the weights, see `pack`.
    """
    if tile.width == 1:
        _pull_one(tile, chain, level, flat, below, units)
        return
    size, unit, lowest = size_of(tile.zero), below[0], like(-INFINITY, tile.zero)
    while unit < below[1]:
        own = level.unit_below + unit
        end = min(below[1], chain.cuts[own], unit + PACKED)
        above = max(units[0], chain.seen_from[own])
        while above < units[1]:
            first = level.unit + above
            stop = min(units[1], chain.ends[first], above + PACKED_ABOVE)
            count, pitch = stop - above, chain.starts[first + 1] - chain.starts[first] if stop - above > 1 else 0
            start = flat + (chain.starts[first] + unit) * size
            known = place(tile, level.cotangents + above), tile.pitch
            is_packed = end - unit > 12
            if is_packed:
                pack(start, pitch, count, end - unit, packed, tile.zero)
            here = int64(0)
            while here < end - unit:
                rows = group_of(end - unit - here)
                out = place(tile, level.cotangents_below + unit + here), tile.pitch
                weights = start + here * size, int64(1), pitch
                if is_packed:
                    weights = packed.ctypes.data + (here // 6 * gap(count) + here % 6) * size, int64(1), int64(6)
                product(tile.product, rows, out, weights, known, (SUMS, 0), count, tile.width, lowest)
                here += rows
            above = stop
        unit = end


@jit
def gap(count):
    """Numbers from six packed columns to the next six: a vector may spill over."""
    return 6 * count + 16


@jit
def pack(start, pitch, count, columns, packed, zero):
    """Six columns after the other of a block of weights (count, columns), a row's six side by side.

    In their matrix rows lie so far apart that each takes a line of the cache for itself and, where the distance is a
    power of two, all take the same few.
    """
    size = size_of(zero)
    for number in range(count):
        row = start + number * pitch * size
        here = 0
        while here < columns:
            out = packed.ctypes.data + (here // 6 * gap(count) + number * 6) * size
            if here + 8 <= columns:
                copy_eight(out, row + here * size, zero)
            else:
                copy(numbers(out, min(6, columns - here), zero), numbers(row + here * size, columns - here, zero))
            here += 6


@jit
def _pull_one(tile, chain, level, flat, below, units):
    above = rows_of(tile, level.cotangents, level.units)
    found = rows_of(tile, level.cotangents_below, level.below)
    for unit in range(units[0], units[1]):
        cotangent = above[unit]
        count = min(below[1], chain.sees[level.unit + unit]) - below[0]
        if cotangent != 0 and count > 0:  # a relu that is shut passes nothing: its weights are not read
            start = chain.starts[level.unit + unit] + below[0]
            weights = numbers(flat + start * size_of(cotangent), count, cotangent)
            out = found[below[0] : below[0] + count]
            for k in range(len(out)):
                out[k] += cotangent * weights[k]


@jit
def outer(tile, chain, level, turned, gradient, first):
    """The gradient of a level's biases and weights, into a buffer: begun there by the ``first`` tile, else added to.

    ``turned`` is memory for the values below with rows and units exchanged, a one before each row.
    """
    if tile.width == 1:
        _outer_one(tile, chain, level, gradient)
        return
    size, lowest = size_of(tile.zero), like(-INFINITY, tile.zero)
    lanes = BYTES // size
    across = turn(tile, level, turned)
    begin, unit = ZEROS if first else SUMS, 0
    while unit < level.units:
        own = level.unit + unit
        rows = group_of(min(level.units, chain.ends[own]) - unit)
        wide = -(-(1 + chain.sees[own + rows - 1]) // lanes) * lanes
        pitch = chain.places[own + 1] - chain.places[own] if rows > 1 else 0
        out = gradient.ctypes.data + chain.places[own] * size, pitch
        cotangents = place(tile, level.cotangents + unit), tile.pitch, 1
        product(tile.product, rows, out, cotangents, (turned.ctypes.data, across), (begin, 0), tile.rows, wide, lowest)
        unit += rows


@jit
def turn(tile, level, turned):
    """Write a one and the values below, row of data by row of data; the pitch of these."""
    lanes = BYTES // size_of(tile.zero)
    pitch = -(-(1 + level.below) // lanes) * lanes
    for n in range(tile.rows):
        turned[n * pitch] = 1
        fill(turned[n * pitch + 1 + level.below : (n + 1) * pitch], tile.zero)
    for unit in range(level.below):
        values = row_of(tile, level.values_below + unit)
        for n in range(tile.rows):
            turned[n * pitch + 1 + unit] = values[n]
    return pitch


@jit
def _outer_one(tile, chain, level, gradient):
    above = rows_of(tile, level.cotangents, level.units)
    below = rows_of(tile, level.values_below, level.below)
    for unit in range(level.units):
        own = level.unit + unit
        start, cotangent = chain.places[own], above[unit]
        gradient[start] = cotangent
        out, seen = gradient[start + 1 : start + 1 + chain.sees[own]], below[: chain.sees[own]]
        for k in range(len(out)):
            out[k] = cotangent * seen[k]
