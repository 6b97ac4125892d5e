"""The products of a network's level with the level below, on a tile of rows: forth, back, and the gradient.

Each stops where the mask does, but for the few units that are taken at once.
"""

from __future__ import annotations

from math import inf as INFINITY  # noqa: N812  # kernels take it for a constant

from flowbench.engines.numba.chain.found import fill, numbers, place, row_of, rows_of
from flowbench.engines.numba.chain.registers import BIASES, BYTES, SUMS, ZEROS, group_of, product
from flowbench.engines.numba.elementary import like, size_of
from flowbench.engines.numba.vectors import jit


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
    values, below = rows_of(tile, level.values, level.units), rows_of(tile, level.values_below, level.below)
    biases = numbers(flat + level.bias * size_of(floor), level.units, floor)
    for unit in range(units[0], units[1]):
        own = level.unit + unit
        count = (chain.sees[own] if known[1] < 0 else known[1]) - known[0]
        weights = numbers(flat + (chain.starts[own] + known[0]) * size_of(floor), count, floor)
        seen = below[known[0] : known[0] + count]
        total = biases[unit] if begin == BIASES else values[unit]
        for k in range(len(seen)):
            total += weights[k] * seen[k]
        values[unit] = floor if total < floor else total


_gather_one = jit(_gather_one, reorder_sums=True)


@jit
def pull(tile, chain, level, flat, below, units):
    """Add to the cotangents of units ``below`` (first, end) what those of ``units`` (first, end) above contribute."""
    if tile.width == 1:
        _pull_one(tile, chain, level, flat, below, units)
        return
    size, unit, lowest = size_of(tile.zero), below[0], like(-INFINITY, tile.zero)
    while unit < below[1]:
        own = level.unit_below + unit
        rows = group_of(min(below[1], chain.cuts[own]) - unit)
        out = place(tile, level.cotangents_below + unit), tile.pitch
        above = max(units[0], chain.seen_from[own])
        while above < units[1]:
            first = level.unit + above
            stop = min(units[1], chain.ends[first])
            pitch = chain.starts[first + 1] - chain.starts[first] if stop - above > 1 else 0
            weights = flat + (chain.starts[first] + unit) * size, 1, pitch
            known = place(tile, level.cotangents + above), tile.pitch
            product(tile.product, rows, out, weights, known, (SUMS, 0), stop - above, tile.width, lowest)
            above = stop
        unit += rows


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
