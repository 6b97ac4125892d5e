"""What is asked of a chain, one compiled call a thread: an image and its density, and the gradient of that.

Rows are cut into tiles, and threads take tiles in turn; they wait for each other only where batch normalisation needs
sums over all rows, and for the gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowbench.engines.numba.chain.found import (
    ALL,
    Tile,
    chain_at,
    copy,
    fill,
    integers,
    memory_at,
    numbers,
    row_of,
)
from flowbench.engines.numba.chain.gate import wait
from flowbench.engines.numba.chain.normalise import merge_moments, moments, normalised_gradient, pull_normalised
from flowbench.engines.numba.chain.stages import move_tile, pull_tile
from flowbench.engines.numba.chain.tables import NORMALISED
from flowbench.engines.numba.elementary import like, size_of
from flowbench.engines.numba.vectors import accumulate, jit

LOG_2_PI = float(np.log(2 * np.pi))


class Job(NamedTuple):
    """What a call is told, all of it integers. Addresses are 0 where there is nothing."""

    chain: int
    memory: int
    weights: int
    # functions: see `stages`
    product: int
    move: int
    pull: int
    gate: int
    threads: int
    lanes: int
    is_density: int
    # a number for each row: log-densities or log_dets, or the cotangents of them
    out: int
    # rows of columns, each as (address, distance of rows, distance of columns): given, and taken
    given: int
    given_down: int
    given_across: int
    taken: int
    taken_down: int
    taken_across: int
    places: int
    """Where the weights' gradients go: their addresses."""
    number: float
    """The cotangent of each log-density, or the sum of them."""


@jit
def job_at(order):
    """The job that lies at an address, its number as the bits of one of double precision."""
    job = integers(order, 19)
    functions = job[3], job[4], job[5]
    given, taken = (job[11], job[12], job[13]), (job[14], job[15], job[16])
    first, last = (job[0], job[1], job[2]), (job[17], numbers(order + 8 * 18, 1, 0.0)[0])
    return Job(*first, *functions, job[6], job[7], job[8], job[9], job[10], *given, *taken, *last)


@jit
def places_of(job):
    """Where chain, memory and weights are."""
    return job.chain, job.memory, job.weights


@jit
def tile_of(job, memory, index, thread, zero):
    """A tile's part of the room, and its shape."""
    rows = memory.bounds[index + 1] - memory.bounds[index]
    width = rows if memory.pitch == 1 else -(-rows // job.lanes) * job.lanes
    part = thread if memory.shared else index
    base = memory.room.ctypes.data + part * memory.size * size_of(zero)
    return Tile(base, memory.pitch, width, rows, zero, job.product)


@jit
def load(tile, data, start, first, dim):
    """Columns of data into rows of memory; zeros where vectors are longer than the tile."""
    address, down, across = data
    found = numbers(address, ALL, tile.zero)
    for column in range(dim):
        values, at = row_of(tile, first + column), start * down + column * across
        for n in range(tile.rows):
            values[n] = found[at + n * down]
        fill(values[tile.rows :], tile.zero)


@jit
def unload(tile, data, start, first, dim):
    """The way back."""
    address, down, across = data
    found = numbers(address, ALL, tile.zero)
    for column in range(dim):
        values, at = row_of(tile, first + column), start * down + column * across
        for n in range(tile.rows):
            found[at + n * down] = values[n]


@jit
def given_statistics(chain, weights, statistics, zero):
    """Copy what normalisations are given to where they look; all threads write the same."""
    for index in range(len(chain.stages)):
        stage = chain.stages[index]
        if stage.kind == NORMALISED and not stage.by_batch:
            for which in range(2):
                copy(statistics[stage.norm, which], numbers(weights[stage.weight + 2 + which], stage.moves, zero))


@jit
def log_normal(tile, chain, out):
    """The log-density (rows,): log_det, and that of what leaves the last stage under a standard normal."""
    log_det, half = row_of(tile, chain.log_det), like(0.5, tile.zero)
    constant = like(-0.5 * chain.dim * LOG_2_PI, tile.zero)
    for n in range(len(out)):
        out[n] = log_det[n] + constant
    for column in range(chain.dim):
        values = row_of(tile, chain.stages[-1].leave + column)
        for n in range(len(out)):
            out[n] -= half * values[n] * values[n]


@jit
def begin_tile(job, tile, chain, start):
    """The columns of data where the first stage takes them, and a log_det of zero."""
    load(tile, (job.given, job.given_down, job.given_across), start, chain.stages[0].come, chain.dim)
    fill(row_of(tile, chain.log_det), tile.zero)


@jit
def end_tile(job, tile, chain, start):
    """The log-density, or what leaves and log_det."""
    out = numbers(job.out + start * size_of(tile.zero), tile.rows, tile.zero)
    if job.is_density:
        log_normal(tile, chain, out)
    else:
        unload(tile, (job.taken, job.taken_down, job.taken_across), start, chain.stages[-1].leave, chain.dim)
        copy(out, row_of(tile, chain.log_det))


def forward(order, thread, zero):
    """Rows given, moved through a chain: their log-density or, with rows taken, log_det is written to ``out``.

    The values of each tile are kept where it has a part of the room of its own.
    """
    job = job_at(order)
    chain, weights = chain_at(job.chain), integers(job.weights, ALL)
    memory = memory_at(job.memory, chain.dim, zero)
    given_statistics(chain, weights, memory.statistics, zero)
    count, tiles = len(chain.stages), len(memory.bounds) - 1
    for segment in range(len(chain.segments) - 1):
        begin, end = chain.segments[segment], chain.segments[segment + 1]
        if segment > 0:
            norm = chain.stages[begin].norm
            merge_moments(memory.sums[0, :, norm], memory.bounds, memory.statistics[norm])
        for index in range(thread, tiles, job.threads):
            tile, start = tile_of(job, memory, index, thread, zero), memory.bounds[index]
            if segment == 0:
                begin_tile(job, tile, chain, start)
            move_tile(job.move, places_of(job), tile, begin, end)
            if end < count:
                moments(tile, chain.stages[end], memory.sums[0, index, chain.stages[end].norm])
            else:
                end_tile(job, tile, chain, start)
        if end < count:
            wait(job.gate, job.threads)


@jit
def seed_density(tile, chain):
    """The cotangents of what leaves, from those of the log-density, which are log_det's."""
    pulled = row_of(tile, chain.log_det + 1)
    for column in range(chain.dim):
        values, cotangent = row_of(tile, chain.stages[-1].leave + column), row_of(tile, column)
        for n in range(len(cotangent)):
            cotangent[n] = -values[n] * pulled[n]


@jit
def seed(job, tile, chain, start):
    """The cotangents with which the way back begins."""
    pulled = row_of(tile, chain.log_det + 1)
    copy(pulled[: tile.rows], numbers(job.out + start * size_of(tile.zero), tile.rows, tile.zero))
    fill(pulled[tile.rows :], tile.zero)
    if job.is_density:
        seed_density(tile, chain)
    else:
        load(tile, (job.given, job.given_down, job.given_across), start, 0, chain.dim)


def backward(order, thread, zero):
    """The gradient, after ``forward``: rows of cotangents of what came are taken, the weights' go to their places.

    ``out`` are the cotangents of the log-density or, with rows given of those of what left, of log_det, and the
    job's number is their sum.
    """
    job = job_at(order)
    total = job.number
    chain, weights = chain_at(job.chain), integers(job.weights, ALL)
    memory = memory_at(job.memory, chain.dim, zero)
    tiles = len(memory.bounds) - 1
    for segment in range(len(chain.segments) - 2, -1, -1):
        begin, end = chain.segments[segment], chain.segments[segment + 1]
        for index in range(thread, tiles, job.threads):
            tile, start = tile_of(job, memory, index, thread, zero), memory.bounds[index]
            if end == len(chain.stages):
                seed(job, tile, chain, start)
            pull_tile(job.pull, places_of(job), tile, (begin, end), index, thread, total)
            if segment == 0 and job.taken:
                unload(tile, (job.taken, job.taken_down, job.taken_across), start, 0, chain.dim)
        if segment > 0:
            wait(job.gate, job.threads)
            stage = chain.stages[begin]
            sums, statistics = sum_of(memory.sums[1, :, stage.norm]), memory.statistics[stage.norm]
            for index in range(thread, tiles, job.threads):
                tile = tile_of(job, memory, index, thread, zero)
                pull_normalised(tile, stage, weights, statistics, sums, memory.bounds[-1], total)
    collect(job, chain, weights, memory, total, thread, zero)


def descend(order, thread, zero):
    """The log-density of rows given, to ``out``, and the gradient of the job's number times its sum.

    It is for chains without sums over all rows: a tile goes there and back while it is in the cache.
    """
    job = job_at(order)
    chain, weights = chain_at(job.chain), integers(job.weights, ALL)
    memory = memory_at(job.memory, chain.dim, zero)
    given_statistics(chain, weights, memory.statistics, zero)
    count, each, total = len(chain.stages), job.number, job.number * memory.bounds[-1]
    for index in range(thread, len(memory.bounds) - 1, job.threads):
        tile, start = tile_of(job, memory, index, thread, zero), memory.bounds[index]
        begin_tile(job, tile, chain, start)
        move_tile(job.move, places_of(job), tile, 0, count)
        end_tile(job, tile, chain, start)
        pulled = row_of(tile, chain.log_det + 1)
        fill(pulled[: tile.rows], like(each, zero))
        fill(pulled[tile.rows :], zero)
        seed_density(tile, chain)
        pull_tile(job.pull, places_of(job), tile, (0, count), index, thread, total)
    collect(job, chain, weights, memory, total, thread, zero)


@jit
def sum_of(parts):
    """Over the tiles, in their order."""
    found = np.zeros((parts.shape[1], parts.shape[2]))
    for index in range(len(parts)):
        for which in range(len(found)):
            accumulate(found[which], parts[index, which])
    return found


@jit
def collect(job, chain, weights, memory, total, thread, zero):
    """From the threads' buffers to where the gradients of the weights belong; what a mask forbids has none."""
    wait(job.gate, job.threads)
    places, threads = integers(job.places, ALL), job.threads
    for index in range(len(chain.levels)):
        level = chain.levels[index]
        flat = numbers(places[level.weight], ALL, zero)
        for unit in range(level.units * thread // threads, level.units * (thread + 1) // threads):
            own = level.unit + unit
            start, sees, row = chain.places[own], chain.sees[own], chain.starts[own]
            bias = memory.gradients[0, start]
            copy(flat[row : row + sees], memory.gradients[0, start + 1 : start + 1 + sees])
            fill(flat[row + sees : row + chain.holds[own]], zero)
            for other in range(1, threads):
                accumulate(flat[row : row + sees], memory.gradients[other, start + 1 : start + 1 + sees])
                bias += memory.gradients[other, start]
            flat[level.bias + unit] = bias
    if thread == 0:
        for index in range(len(chain.stages)):
            stage = chain.stages[index]
            if stage.kind == NORMALISED:
                sums, statistics = sum_of(memory.sums[1, :, stage.norm]), memory.statistics[stage.norm]
                log_gamma = numbers(places[stage.weight], stage.moves, zero)
                beta = numbers(places[stage.weight + 1], stage.moves, zero)
                normalised_gradient(stage, weights, statistics, sums, total, log_gamma, beta)
