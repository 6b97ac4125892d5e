"""Batch normalisation of a chain: the batch's moments and its gradient, each from sums over tiles of rows."""

from __future__ import annotations

from flowbench.engines.numba.chain.found import numbers, row_of
from flowbench.engines.numba.elementary import exp, like, log
from flowbench.engines.numba.vectors import jit


def moments(tile, stage, found):
    """Of what comes in this tile: each column's mean, and its sum of squares about that, (2, D)."""
    rows = tile.rows
    for column in range(stage.moves):
        values = row_of(tile, stage.come + column)[:rows]
        total = tile.zero
        for n in range(rows):
            total += values[n]
        mean = total / rows
        squares = tile.zero
        for n in range(rows):
            squares += (values[n] - mean) * (values[n] - mean)
        found[0, column], found[1, column] = mean, squares


moments = jit(moments, reorder_sums=True)


@jit
def merge_moments(found, bounds, statistics):
    """The mean and biased variance (2, D) of all tiles' rows, from each tile's moments (Chan et al. 1983)."""
    rows = bounds[-1]
    for column in range(statistics.shape[1]):
        mean = 0.0
        for index in range(len(found)):
            mean += found[index, 0, column] * (bounds[index + 1] - bounds[index])
        mean /= rows
        squares = 0.0
        for index in range(len(found)):
            away = found[index, 0, column] - mean
            squares += found[index, 1, column] + (bounds[index + 1] - bounds[index]) * away * away
        statistics[0, column], statistics[1, column] = mean, squares / rows


@jit
def log_scale_of(stage, weights, statistics, column, one):
    """log γ − ½ log(v + ε), or minus that of the inverse."""
    log_gamma = numbers(weights[stage.weight], stage.moves, one)[column]
    found = log_gamma - 0.5 * log(statistics[1, column] + stage.epsilon)
    return -found if stage.inverted else found


@jit
def beta_of(stage, weights, column, one):
    """β of a column."""
    return numbers(weights[stage.weight + 1], stage.moves, one)[column]


@jit
def origin_of(stage, weights, statistics, column, one):
    """What is subtracted before a column is scaled: the mean, or β in the inverse."""
    return beta_of(stage, weights, column, one) if stage.inverted else like(statistics[0, column], one)


@jit
def normalise(tile, stage, weights, statistics, log_det):
    """Batch normalisation by given statistics (2, D): means, and variances."""
    one, total = like(1, tile.zero), 0.0
    for column in range(stage.moves):
        come, leave = row_of(tile, stage.come + column), row_of(tile, stage.leave + column)
        scale = log_scale_of(stage, weights, statistics, column, one)
        before = origin_of(stage, weights, statistics, column, one)
        after = like(statistics[0, column], one) if stage.inverted else beta_of(stage, weights, column, one)
        total += scale
        factor = like(exp(scale), one)
        for n in range(len(come)):
            leave[n] = (come[n] - before) * factor + after
    term = like(total, one)
    for n in range(len(log_det)):
        log_det[n] += term


def slopes(tile, stage, weights, statistics, found):
    """Of this tile: each column's sum of cotangents, and of their products with what came, less its origin, (2, D)."""
    rows, one = tile.rows, like(1, tile.zero)
    for column in range(stage.moves):
        values, above = row_of(tile, stage.come + column)[:rows], row_of(tile, column)[:rows]
        origin = origin_of(stage, weights, statistics, column, one)
        total, along = like(0, one), like(0, one)
        for n in range(rows):
            total += above[n]
            along += above[n] * (values[n] - origin)
        found[0, column], found[1, column] = total, along


slopes = jit(slopes, reorder_sums=True)


@jit
def pull_normalised(tile, stage, weights, statistics, sums, rows, pulled):
    """The cotangents of what came, in place, from the ``sums`` (2, D) of all tiles' `slopes`.

    x̄ = s·(ū − mean(ū)) − (x − m)/(v + ε)·(s·Σū(x − m) + Σℓ̄)/N where statistics m and v are the batch's, with s the
    scale and ``pulled`` the sum of log_det's cotangents ℓ̄; else s·ū.
    """
    one = like(1, tile.zero)
    for column in range(stage.moves):
        cotangent, come = row_of(tile, column), row_of(tile, stage.come + column)
        scale = exp(log_scale_of(stage, weights, statistics, column, one))
        factor, mean, along = like(scale, one), like(0, one), like(0, one)
        if stage.by_batch:
            mean = like(sums[0, column] / rows, one)
            precision = 1 / (statistics[1, column] + stage.epsilon)
            along = like(precision * (scale * sums[1, column] + pulled) / rows, one)
        origin = origin_of(stage, weights, statistics, column, one)
        for n in range(len(cotangent)):
            cotangent[n] = factor * (cotangent[n] - mean) - (come[n] - origin) * along


@jit
def normalised_gradient(stage, weights, statistics, sums, pulled, log_gamma, beta):
    """The gradients (D,) of log γ and β, from the same sums."""
    one = like(1, log_gamma[0])
    for column in range(stage.moves):
        scale = exp(log_scale_of(stage, weights, statistics, column, one))
        if stage.inverted:
            log_gamma[column] = -(scale * sums[1, column] + pulled)
            beta[column] = -scale * sums[0, column]
        else:
            log_gamma[column] = scale * sums[1, column] + pulled
            beta[column] = sums[0, column]
