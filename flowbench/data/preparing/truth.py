"""Data drawn from a density that is known exactly: a run on it can say how far from the truth it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from flowbench.data.card import Card
from flowbench.data.dataset import Float32, Float64, Splits

Sampler = Callable[[int, np.random.RandomState], Float64]
"""``sample(n, rng)``: n independent rows (n, D)."""

LogDensity = Callable[[Float64], Float64]
"""``log_prob(x)``: the exact log-density (N,) in nats of rows (N, D)."""


def draw_splits(card: Card, sample: Sampler, log_prob: LogDensity, rng: np.random.RandomState) -> Splits:
    """Independent draws of the card's sizes, the test rows with their true log-density.

    The density is taken at the float32 rows that a flow is given, not at the float64 rows they were rounded from.
    """
    train, validation, test = (_draw(sample, n, rng) for n in card.rows)
    return Splits(train, validation, test, test_true_ll=log_prob(test.astype(np.float64)), preprocessing=())


def _draw(sample: Sampler, n: int, rng: np.random.RandomState) -> Float32:
    return sample(n, rng).astype(np.float32)
