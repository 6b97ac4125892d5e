"""What is asked of a chain, one compiled call a thread: an image and its density, and the gradient of that.

Rows are cut into tiles, and threads take tiles in turn; they wait for each other only where batch normalisation needs
sums over all rows. ``rows`` of data are given and taken as (address, distance of rows, distance of columns).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from flowbench.engines.numba.chain.backward import pull_stage
from flowbench.engines.numba.chain.forward import move
from flowbench.engines.numba.chain.gate import wait
from flowbench.engines.numba.chain.normalise import (
    merge_moments,
    moments,
    normalised_gradient,
    pull_normalised,
    slopes,
)
from flowbench.engines.numba.chain.products import numbers, row_of
from flowbench.engines.numba.chain.tables import NORMALISED
from flowbench.engines.numba.elementary import like
from flowbench.engines.numba.vectors import accumulate as add
from flowbench.engines.numba.vectors import jit

LOG_2_PI = float(np.log(2 * np.pi))


class Memory(NamedTuple):
    """Where a call works.

    ``room`` is cut into parts of ``size`` numbers; ``shared`` says that tiles of one thread take the same part, one
    after the other. ``bounds`` (tiles + 1,) are where tiles begin among the rows.
    """

    room: Any
    size: int
    pitch: int
    shared: bool
    bounds: Any
    statistics: Any
    """Of each normalisation: the mean and variance that it uses, (norms, 2, D), in double precision."""
    sums: Any
    """Of each tile and normalisation, (tiles, norms, 2, D)."""
    gradients: Any
    """A buffer for each thread, (threads, ·)."""
    turned: Any
    """Room for values with rows and units exchanged, (threads, ·)."""


@jit
def tile_of(memory, index, thread, lanes):
    """A tile's room and shape."""
    rows = memory.bounds[index + 1] - memory.bounds[index]
    width = rows if memory.pitch == 1 else -(-rows // lanes) * lanes
    part = thread if memory.shared else index
    return memory.room, part * memory.size, memory.pitch, width, rows


@jit
def load(tile, rows, start, first, dim):
    """Columns of data into rows of memory; zeros where vectors are longer than the tile."""
    zero = like(0, tile[0][0])
    data = numbers(rows[0], 0, 1 << 60, zero)
    for column in range(dim):
        values = row_of(tile, first + column)
        values[tile[4] :] = 0
        at = start * rows[1] + column * rows[2]
        for n in range(tile[4]):
            values[n] = data[at + n * rows[1]]


@jit
def unload(tile, rows, start, first, dim):
    """The way back."""
    data = numbers(rows[0], 0, 1 << 60, like(0, tile[0][0]))
    for column in range(dim):
        values = row_of(tile, first + column)
        at = start * rows[1] + column * rows[2]
        for n in range(tile[4]):
            data[at + n * rows[1]] = values[n]


@jit
def given_statistics(chain, weights, statistics, number):
    """Copy what normalisations are given to where they look; threads write the same."""
    norm = 0
    for stage in chain.stages:
        if stage.kind == NORMALISED:
            if not stage.by_batch:
                statistics[norm, 0] = numbers(weights[stage.weight + 2], 0, stage.moves, number)
                statistics[norm, 1] = numbers(weights[stage.weight + 3], 0, stage.moves, number)
            norm += 1


@jit
def log_normal(tile, chain, out):
    """The log-density (rows,): log_det, and that of what leaves the last stage under a standard normal."""
    log_det = row_of(tile, chain.log_det)
    half = like(0.5, log_det[0])
    constant = like(-0.5 * chain.dim * LOG_2_PI, log_det[0])
    for n in range(len(out)):
        out[n] = log_det[n] + constant
    for column in range(chain.dim):
        values = row_of(tile, chain.stages[-1].leave + column)
        for n in range(len(out)):
            out[n] -= half * values[n] * values[n]


@jit
def load_tile(tile, chain, rows, start):
    """The columns of data where the first stage takes them, and a log_det of zero."""
    load(tile, rows, start, chain.stages[0].come, chain.dim)
    row_of(tile, chain.log_det)[:] = 0


@jit
def move_tile(tile, chain, weights, memory, begin, end):
    """Some stages."""
    log_det = row_of(tile, chain.log_det)
    for index in range(begin, end):
        move(tile, chain, chain.stages[index], weights, log_det, memory.statistics[chain.stages[index].norm])


@jit
def evaluate(chain, weights, memory, given, taken, out, is_density, thread, threads, lanes):
    """Rows moved through a chain whose statistics are all given.

    ``out`` (N,) becomes their log-density or, with rows ``taken``, log_det.
    """
    given_statistics(chain, weights, memory.statistics, out[0])
    for index in range(thread, len(memory.bounds) - 1, threads):
        tile, start = tile_of(memory, index, thread, lanes), memory.bounds[index]
        load_tile(tile, chain, given, start)
        move_tile(tile, chain, weights, memory, 0, len(chain.stages))
        finish_tile(tile, chain, taken, out[start : start + tile[4]], start, is_density)


@jit
def finish_tile(tile, chain, taken, out, start, is_density):
    """The log-density, or what leaves and log_det."""
    if is_density:
        log_normal(tile, chain, out)
    else:
        unload(tile, taken, start, chain.stages[-1].leave, chain.dim)
        out[:] = row_of(tile, chain.log_det)[: len(out)]


@jit
def forward(chain, weights, memory, given, taken, out, is_density, thread, threads, gate, lanes):
    """As ``evaluate``, of any chain; each tile's values are kept in a part of the room of its own."""
    given_statistics(chain, weights, memory.statistics, out[0])
    for segment in range(len(chain.cuts_at) - 1):
        begin, end = chain.cuts_at[segment], chain.cuts_at[segment + 1]
        if segment > 0:
            norm = chain.stages[begin].norm
            merge_moments(memory.sums[0, :, norm], memory.bounds, memory.statistics[norm])
        for index in range(thread, len(memory.bounds) - 1, threads):
            tile = tile_of(memory, index, thread, lanes)
            if segment == 0:
                load_tile(tile, chain, given, memory.bounds[index])
            move_tile(tile, chain, weights, memory, begin, end)
            if end < len(chain.stages):
                moments(tile, chain.stages[end], memory.sums[0, index, chain.stages[end].norm])
            else:
                start = memory.bounds[index]
                finish_tile(tile, chain, taken, out[start : start + tile[4]], start, is_density)
        if end < len(chain.stages):
            wait(gate, threads)


@jit
def seed_density(tile, chain, above):
    """The cotangents of what leaves, and of log_det, from those of the log-density (rows,)."""
    pulled = row_of(tile, chain.log_det + 1)
    pulled[len(above) :] = 0
    for n in range(len(above)):
        pulled[n] = above[n]
    for column in range(chain.dim):
        values, cotangent = row_of(tile, chain.stages[-1].leave + column), row_of(tile, column)
        for n in range(len(cotangent)):
            cotangent[n] = -values[n] * pulled[n]


@jit
def seed(tile, chain, rows, above, start):
    """The cotangents of what leaves, from rows of them, and those of log_det (rows,)."""
    pulled = row_of(tile, chain.log_det + 1)
    pulled[len(above) :] = 0
    pulled[: len(above)] = above
    load(tile, rows, start, 0, chain.dim)


@jit
def pull_tile(tile, chain, weights, memory, span, index, thread, total):
    """Some stages, from the last to the first; of a normalisation by the batch that begins them only the sums."""
    pulled = row_of(tile, chain.log_det + 1)
    turned, gradient, first = memory.turned[thread], memory.gradients[thread], index == thread
    for at in range(span[1] - 1, span[0] - 1, -1):
        stage = chain.stages[at]
        if stage.kind == NORMALISED:
            statistics, sums = memory.statistics[stage.norm], memory.sums[1, index, stage.norm]
            slopes(tile, stage, weights, statistics, sums)
            if not stage.by_batch:
                pull_normalised(tile, stage, weights, statistics, sums, memory.bounds[-1], total)
        else:
            pull_stage(tile, chain, stage, weights, pulled, turned, gradient, first)


@jit
def backward(chain, weights, memory, above, out, total, is_density, places, taken, thread, threads, gate, lanes):
    """The gradient, after ``forward``: rows of cotangents of what came are ``taken``, weights' written to ``places``.

    ``out`` (N,) are the cotangents of the log-density or, with rows of them ``above`` for what left, of log_det;
    ``total`` is their sum.
    """
    for segment in range(len(chain.cuts_at) - 2, -1, -1):
        begin, end = chain.cuts_at[segment], chain.cuts_at[segment + 1]
        for index in range(thread, len(memory.bounds) - 1, threads):
            tile, start = tile_of(memory, index, thread, lanes), memory.bounds[index]
            if end == len(chain.stages):
                own = out[start : start + tile[4]]
                if is_density:
                    seed_density(tile, chain, own)
                else:
                    seed(tile, chain, above, own, start)
            pull_tile(tile, chain, weights, memory, (begin, end), index, thread, total)
            if segment == 0 and taken[0]:
                unload(tile, taken, start, 0, chain.dim)
        if segment > 0:
            wait(gate, threads)
            stage = chain.stages[begin]
            sums = sum_of(memory.sums[1, :, stage.norm])
            for index in range(thread, len(memory.bounds) - 1, threads):
                tile = tile_of(memory, index, thread, lanes)
                statistics = memory.statistics[stage.norm]
                pull_normalised(tile, stage, weights, statistics, sums, memory.bounds[-1], total)
    collect(chain, weights, memory, total, places, thread, threads, gate)


@jit
def both(chain, weights, memory, given, out, each, places, thread, threads, gate, lanes):
    """The log-density (N,) of ``given`` rows, and the gradient of ``each`` times its sum, to ``places``.

    Without sums over all rows in it a tile goes forth and back while it is in the cache.
    """
    nowhere, total = (0, 0, 0), each * memory.bounds[-1]
    above = np.full(memory.bounds[-1], each, out.dtype)
    if len(chain.cuts_at) > 2:
        forward(chain, weights, memory, given, nowhere, out, True, thread, threads, gate, lanes)
        backward(chain, weights, memory, nowhere, above, total, True, places, nowhere, thread, threads, gate, lanes)
        return
    given_statistics(chain, weights, memory.statistics, out[0])
    for index in range(thread, len(memory.bounds) - 1, threads):
        tile, start = tile_of(memory, index, thread, lanes), memory.bounds[index]
        load_tile(tile, chain, given, start)
        move_tile(tile, chain, weights, memory, 0, len(chain.stages))
        log_normal(tile, chain, out[start : start + tile[4]])
        seed_density(tile, chain, above[start : start + tile[4]])
        pull_tile(tile, chain, weights, memory, (0, len(chain.stages)), index, thread, total)
    collect(chain, weights, memory, total, places, thread, threads, gate)


@jit
def sum_of(parts):
    """Over the tiles, in their order."""
    found = np.zeros(parts.shape[1:])
    for index in range(len(parts)):
        found += parts[index]
    return found


@jit
def collect(chain, weights, memory, total, places, thread, threads, gate):
    """From the threads' buffers to where the gradients of the weights belong; what a mask forbids has none."""
    wait(gate, threads)
    number = memory.room[0]
    for index in range(len(chain.levels)):
        level = chain.levels[index]
        flat = numbers(places[level.weight], 0, 1 << 60, number)
        for unit in range(level.units * thread // threads, level.units * (thread + 1) // threads):
            own = level.unit + unit
            start, sees, held = chain.places[own], chain.sees[own], chain.holds[own]
            row = flat[chain.starts[own] : chain.starts[own] + held]
            row[:sees] = memory.gradients[0, start + 1 : start + 1 + sees]
            row[sees:] = 0
            bias = memory.gradients[0, start]
            for other in range(1, threads):
                add(row[:sees], memory.gradients[other, start + 1 : start + 1 + sees])
                bias += memory.gradients[other, start]
            flat[level.bias + unit] = bias
    if thread == 0:
        for stage in chain.stages:
            if stage.kind == NORMALISED:
                sums = sum_of(memory.sums[1, :, stage.norm])
                log_gamma = numbers(places[stage.weight], 0, stage.moves, number)
                beta = numbers(places[stage.weight + 1], 0, stage.moves, number)
                statistics = memory.statistics[stage.norm]
                normalised_gradient(stage, weights, statistics, sums, total, log_gamma, beta)
