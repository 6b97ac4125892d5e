"""Stages of a chain on one tile of rows, from what comes to what leaves; see `products` for a tile."""

from __future__ import annotations

from math import inf as INFINITY  # noqa: N812  # kernels take it for a constant

from numba import int64

from flowbench.engines.numba.chain.found import copy, row_of, rows_of
from flowbench.engines.numba.chain.normalise import normalise
from flowbench.engines.numba.chain.products import gather
from flowbench.engines.numba.chain.registers import BIASES, SUMS
from flowbench.engines.numba.chain.tables import COUPLED, MASKED, NORMALISED
from flowbench.engines.numba.elementary import like
from flowbench.engines.numba.vectors import accumulate, activate, affine_inverse, affine_map, jit
from flowbench.tuning import CHAIN_BLOCK


@jit
def move(tile, chain, stage, weights, log_det, statistics):
    """One stage: what leaves it, and its term of log_det (rows,). Batch normalisation is told its ``statistics``."""
    if stage.kind == MASKED:
        if stage.inverted:
            substitute(tile, chain, stage, weights, log_det)
        else:
            run_networks(tile, chain, stage, weights)
            move_columns(tile, chain, stage, log_det)
    elif stage.kind == COUPLED:
        copy_columns(tile, chain, stage, stage.come, stage.seen)
        run_networks(tile, chain, stage, weights)
        for index in range(stage.passes):
            column = chain.columns[stage.passed + index]
            copy(row_of(tile, stage.leave + column), row_of(tile, stage.come + column))
        move_columns(tile, chain, stage, log_det)
    elif stage.kind == NORMALISED:
        normalise(tile, stage, weights, statistics, log_det)
    else:
        copy_columns(tile, chain, stage, stage.come, stage.leave)


@jit
def copy_columns(tile, chain, stage, come, leave):
    """Those that pass, one below the other."""
    for index in range(stage.passes):
        copy(row_of(tile, leave + index), row_of(tile, come + chain.columns[stage.passed + index]))


@jit
def run_networks(tile, chain, stage, weights):
    """All levels of a stage's networks, from the input up."""
    for index in range(stage.first_level, stage.end_level):
        level = chain.levels[index]
        flat = weights[level.weight]
        relu = not (level.is_last or level.is_tanh)
        floor = tile.zero if relu else like(-INFINITY, tile.zero)
        gather(tile, chain, level, flat, (int64(0), level.units), (int64(0), int64(-1)), int64(BIASES), floor)
        if level.is_tanh and not level.is_last:
            activate(rows_of(tile, level.values, level.units), True)


@jit
def move_columns(tile, chain, stage, log_det):
    """The affine map of the columns that move, or its inverse; the log-scale of each is kept as what log_det gains."""
    affine = stage.gain, stage.bound
    for index in range(stage.moves):
        column = chain.columns[stage.moved + index]
        come, leave = row_of(tile, stage.come + column), row_of(tile, stage.leave + column)
        theta = stage.theta + index * stage.step
        shift, raw, scale = row_of(tile, theta), row_of(tile, theta + stage.apart), row_of(tile, stage.scales + index)
        if stage.inverted:
            affine_inverse(come, shift, raw, affine, leave, scale)
        else:
            affine_map(come, shift, raw, affine, leave, scale)
        accumulate(log_det, scale)


@jit
def substitute(tile, chain, stage, weights, log_det):
    """The inverse of a masked autoregressive stage, column by column (see `transforms.substitution`), in blocks.

    What the columns before a block contribute to it comes in with products of full width.
    """
    levels = chain.levels[stage.first_level : stage.end_level]
    last, dim, zero = len(levels), stage.moves, tile.zero
    lowest = like(-INFINITY, zero)
    affine = stage.gain, stage.bound
    visible = chain.columns[stage.visible : stage.visible + (last + 1) * (dim + 1)].reshape((last + 1, dim + 1))
    block = block_of(dim)
    for start in range(0, dim, block):
        stop = min(start + block, dim)
        for index in range(last):
            level = levels[index]
            units = visible[index + 1, start], visible[index + 1, stop]
            gather(
                tile,
                chain,
                level,
                weights[level.weight],
                units,
                (int64(0), visible[index, start]),
                int64(BIASES),
                lowest,
            )
        for column in range(start, stop):
            top = levels[last - 1]
            known = visible[last - 1, start], visible[last - 1, column]
            gather(tile, chain, top, weights[top.weight], (2 * column, 2 * column + 2), known, int64(SUMS), lowest)
            come, leave = row_of(tile, stage.come + column), row_of(tile, stage.leave + column)
            theta, scale = stage.theta + 2 * column, row_of(tile, stage.scales + column)
            affine_inverse(come, row_of(tile, theta), row_of(tile, theta + 1), affine, leave, scale)
            accumulate(log_det, scale)
            for index in range(last - 1):
                level = levels[index]
                units = visible[index + 1, column], visible[index + 1, column + 1]
                known = visible[index, start], visible[index, column + 1]
                floor = lowest if level.is_tanh else zero
                gather(tile, chain, level, weights[level.weight], units, known, int64(SUMS), floor)
                if level.is_tanh and units[0] < units[1]:
                    activate(rows_of(tile, level.values + units[0], units[1] - units[0]), True)


@jit
def block_of(dim):
    """Columns between two rounds of wide products."""
    return dim if dim <= CHAIN_BLOCK[0] else CHAIN_BLOCK[1]
