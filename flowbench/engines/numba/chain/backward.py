"""Gradients of a chain's stages on one tile of rows, from the cotangents of what leaves to those of what comes.

The cotangents (D rows of memory, the first) are changed in place; ``pulled`` (rows,) are those of log_det.
"""

from __future__ import annotations

from numba import int64

from flowbench.engines.numba.chain.forward import block_of
from flowbench.engines.numba.chain.found import copy, fill, row_of, rows_of
from flowbench.engines.numba.chain.products import outer, pull
from flowbench.engines.numba.chain.tables import MASKED, ORDERED
from flowbench.engines.numba.elementary import exp, like
from flowbench.engines.numba.vectors import accumulate, jit, pull_affine, slope


@jit
def pull_stage(tile, chain, stage, weights, pulled, turned, gradient, first):
    """One stage but batch normalisation; its weights' gradients go to the buffer, see `products.outer`."""
    if stage.kind == ORDERED:
        reorder(tile, chain, stage)
    elif stage.kind == MASKED and stage.inverted:
        pull_substitution(tile, chain, stage, weights, pulled, turned)
        for index in range(stage.first_level, stage.end_level):
            outer(tile, chain, chain.levels[index], turned, gradient, first)
    else:
        pull_columns(tile, chain, stage, pulled)
        pull_networks(tile, chain, stage, weights, turned, gradient, first)


@jit
def reorder(tile, chain, stage):
    """To the order in which columns came, by way of some other memory: what came and left may be wanted again."""
    for index in range(stage.passes):
        copy(row_of(tile, stage.seen + chain.columns[stage.passed + index]), row_of(tile, index))
    for column in range(stage.passes):
        copy(row_of(tile, column), row_of(tile, stage.seen + column))


@jit
def pull_columns(tile, chain, stage, pulled):
    """From columns that moved to what they were moved from and by: the cotangents of θ."""
    top = chain.levels[stage.end_level - 1]
    theta = top.cotangents + top.units - 2 * stage.moves  # networks' outputs lie one behind the other
    for index in range(stage.moves):
        column = chain.columns[stage.moved + index]
        moved = row_of(tile, (stage.come if stage.inverted else stage.leave) + column)
        scale, cotangent = row_of(tile, stage.scales + index), row_of(tile, column)
        shift = row_of(tile, theta + index * stage.step)
        raw = row_of(tile, theta + index * stage.step + stage.apart)
        bends = stage.gain, stage.bound
        if stage.inverted:
            pull_solved(moved, scale, bends, pulled, cotangent, shift, raw)
            scale_up(cotangent, scale)
        else:
            pull_affine(moved, scale, bends, pulled, cotangent, shift, raw)


@jit
def scale_up(cotangent, scale):
    """From the cotangent of x = u·exp(scale) + shift to that of u, in place."""
    for n in range(len(cotangent)):
        cotangent[n] *= exp(scale[n])


@jit
def pull_solved(u, scale, affine, pulled, cotangent, shift, raw):
    """``Affine.inverse``'s gradient in θ, from x's cotangent."""
    one = like(1, u[0])
    gain, squeeze = like(affine[0], one), like(1 / affine[1] ** 2 if affine[1] > 0 else 0, one)
    for n in range(len(u)):
        bend = gain * (one - squeeze * scale[n] * scale[n])
        shift[n] = cotangent[n]
        raw[n] = (cotangent[n] * u[n] * exp(scale[n]) + pulled[n]) * bend


@jit
def pull_networks(tile, chain, stage, weights, turned, gradient, first):
    """All levels of a stage's networks, from the outputs down to the columns that they read."""
    bottom = chain.levels[stage.first_level]
    if stage.kind != MASKED:
        fill(rows_of(tile, bottom.cotangents_below, bottom.below), tile.zero)
    for index in range(stage.end_level - 1, stage.first_level - 1, -1):
        level = chain.levels[index]
        outer(tile, chain, level, turned, gradient, first)
        if not level.is_first:
            fill(rows_of(tile, level.cotangents_below, level.below), tile.zero)
        pull(tile, chain, level, weights[level.weight], (int64(0), level.below), (int64(0), level.units), turned)
        if not level.is_first:
            below = rows_of(tile, level.values_below, level.below)
            slope(rows_of(tile, level.cotangents_below, level.below), below, level.is_tanh)
    if stage.kind != MASKED:
        for index in range(stage.passes):
            column = chain.columns[stage.passed + index]
            accumulate(row_of(tile, column), row_of(tile, bottom.cotangents_below + index))


@jit
def pull_substitution(tile, chain, stage, weights, pulled, turned):
    """The gradient of `forward.substitute`, by substitution on the transposed network, from the last column on.

    It leaves the cotangents of all units.
    """
    levels = chain.levels[stage.first_level : stage.end_level]
    last, dim = len(levels), stage.moves
    visible = chain.columns[stage.visible : stage.visible + (last + 1) * (dim + 1)].reshape((last + 1, dim + 1))
    affine, block = (stage.gain, stage.bound), block_of(dim)
    for index in range(last - 1):
        fill(rows_of(tile, levels[index].cotangents, levels[index].units), tile.zero)
    for start in range((dim - 1) // block * block, -1, -block):
        stop = min(start + block, dim)
        for index in range(last - 1, -1, -1):
            level = levels[index]
            own, later = (visible[index, start], visible[index, stop]), (visible[index + 1, stop], level.units)
            pull(tile, chain, level, weights[level.weight], own, later, turned)
        for column in range(stop - 1, start - 1, -1):
            for index in range(last - 1, -1, -1):
                level = levels[index]
                own = visible[index, column], visible[index, column + 1]
                # outputs see only columns before their own
                later = visible[index + 1, column + (index + 1 == last)], visible[index + 1, stop]
                pull(tile, chain, level, weights[level.weight], own, later, turned)
                if index > 0 and own[0] < own[1]:
                    above = rows_of(tile, level.cotangents_below + own[0], own[1] - own[0])
                    slope(above, rows_of(tile, level.values_below + own[0], own[1] - own[0]), level.is_tanh)
            theta = levels[last - 1].cotangents + 2 * column
            known = row_of(tile, stage.come + column), row_of(tile, stage.scales + column)
            pull_solved(*known, affine, pulled, row_of(tile, column), row_of(tile, theta), row_of(tile, theta + 1))
    for column in range(dim):
        scale_up(row_of(tile, column), row_of(tile, stage.scales + column))
