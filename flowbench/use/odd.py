"""Which column makes a row unlikely.

Where a density takes its columns in one order, log p(x) is the sum of log p(x_i | the columns before x_i), exactly, and
each is held against what is usual of that column. Elsewhere (reversed orders, couplings, means of densities) there are
no such terms: what belongs to a column is then what the row gains by another value there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from flowbench.flows.core.density import Density, Float64

DRAWS = 128
"""Of the density itself, from which it is known what is usual."""

VALUES = 16
"""Usual values of a column that a row's own is replaced by: quantiles of the draws."""

AT_ONCE = 1 << 22
"""Values of rows whose densities are taken at a time."""


Kind = Literal["log_prob", "gain"]


@dataclass(frozen=True, eq=False)
class Oddness:
    """Of rows, what each column has to do with their log-density being low.

    ``terms`` (N, D) in nats are of the density's `kind_of`: conditional log-densities, which add up to the row's, or
    gains. ``oddness`` (N, D) in nats is how far a conditional log-density lies below the usual one, or the gain: the
    odd column is the one where it is greatest.
    """

    terms: Float64
    oddness: Float64


def kind_of(density: Density) -> Kind:
    """What there is of each column: "log_prob", its conditional log-density, where there is one; else "gain"."""
    return "log_prob" if density.has_one_order else "gain"


def oddness(density: Density, rows: Float64, lls: Float64, seed: int = 0) -> Oddness:
    """That of ``rows`` (N, G + D), whose log-densities are ``lls`` (N,); the draws are seeded."""
    first = len(density.given)
    draws = _draws(density, rows[:, :first], seed)
    if density.has_one_order:
        terms = density.log_conditionals(rows)
        usual = density.log_conditionals(draws.reshape(-1, draws.shape[-1])).reshape(len(draws), DRAWS, -1)
        return Oddness(terms, np.median(usual, axis=1) - terms)
    ranks = (np.arange(VALUES) + 0.5) / VALUES
    own = draws[..., first:]
    usual = np.quantile(own, ranks, axis=1, method="inverted_cdf").transpose(1, 2, 0)
    lacking = np.asarray(np.isnan(own).any(axis=1))  # no order has places for what is missing
    usual = np.where(lacking[..., None], own[:, :VALUES].swapaxes(1, 2), usual)
    each = zip(rows, lls, np.broadcast_to(usual, (len(rows), *usual.shape[1:])), strict=True)
    gains = np.array([_gains(density, *row) for row in each]).reshape(len(rows), density.dim)
    return Oddness(gains, gains)


def _draws(density: Density, given: Float64, seed: int) -> Float64:
    """Draws (N, DRAWS, G + D) for what each row is given; (1, DRAWS, D) for all of them where nothing is."""
    generator = torch.Generator(density.flow.origin.device).manual_seed(seed)
    if not density.given:
        return np.concatenate(list(density.samples(DRAWS, generator)))[None]
    each = np.repeat(given, DRAWS, axis=0)
    drawn = np.concatenate(list(density.samples(len(each), generator, each)) or [np.empty((0, density.dim))])
    return drawn.reshape(len(given), DRAWS, -1)


def _gains(density: Density, row: Float64, ll: float, usual: Float64) -> Float64:
    """log of the mean of p over a column's ``usual`` values (D, K), less log p of the row as it is: (D,)."""
    found = []
    for columns in _parts(len(usual), AT_ONCE // (VALUES * len(row))):
        others = np.tile(row, (len(columns), VALUES, 1))
        others[np.arange(len(columns)), :, len(density.given) + columns] = usual[columns]
        lls = density.log_prob(others.reshape(-1, len(row))).reshape(len(columns), VALUES)
        found.append(np.logaddexp.reduce(np.nan_to_num(lls, nan=-np.inf), axis=1) - np.log(VALUES) - ll)
    return np.concatenate(found)


def _parts(count: int, most: int) -> Iterator[np.ndarray]:
    step = max(1, most)
    return (np.arange(start, min(count, start + step)) for start in range(0, count, step))
