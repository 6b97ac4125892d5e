"""A non-linear autoregressive process in 8 columns with heavy tails, whose log-density is known exactly."""

from collections.abc import Mapping
from math import lgamma
from pathlib import Path

import numpy as np

from flowbench.data import Card, Splits
from flowbench.data.dataset import Float64
from flowbench.data.preparing.truth import draw_splits

CARD = Card(
    name="truth-student",
    version=1,
    title="A non-linear autoregressive process with Student-t innovations (5 degrees of freedom)",
    source_url="datasets/truth-student.py",
    licence="MIT",
    citation="flowbench",
    dim=8,
    n_train=100_000,
    n_validation=10_000,
    n_test=20_000,
    space="raw",
    gaussian_test_ll=-7.589,
    gaussian_tolerance=0.01,
)

_FREEDOM = 5.0


def location(previous: Float64, one_before: Float64) -> Float64:
    """Where the next column is centred, given the two columns before it."""
    return np.asarray(0.8 * np.sin(2 * previous) + 0.3 * np.tanh(one_before))


def scale(previous: Float64) -> Float64:
    """How widely the next column is spread: narrow after small values, wide after large ones; 0.3 to 0.8."""
    return np.asarray(0.8 - 0.5 * np.exp(-0.5 * previous**2))


def sample(n: int, rng: np.random.RandomState) -> Float64:
    """n rows, column by column: x_i = location(x_{i-1}, x_{i-2}) + scale(x_{i-1}) t_i, with zeros before the first."""
    x = np.zeros((n, CARD.dim + 2))
    for i in range(2, CARD.dim + 2):
        x[:, i] = location(x[:, i - 1], x[:, i - 2]) + scale(x[:, i - 1]) * rng.standard_t(_FREEDOM, size=n)
    return x[:, 2:]


def log_prob(x: Float64) -> Float64:
    """sum_i log t((x_i - location) / scale) - log scale in nats, (N,)."""
    padded = np.pad(x, ((0, 0), (2, 0)))
    spread = scale(padded[:, 1:-1])
    t = (x - location(padded[:, 1:-1], padded[:, :-2])) / spread
    half = (_FREEDOM + 1) / 2
    log_normaliser = lgamma(_FREEDOM / 2) - lgamma(half) + 0.5 * np.log(_FREEDOM * np.pi)
    return np.asarray((-half * np.log1p(t**2 / _FREEDOM) - log_normaliser - np.log(spread)).sum(axis=1))


def prepare(raw: Mapping[str, Path], rng: np.random.RandomState) -> Splits:
    """Independent draws."""
    return draw_splits(CARD, sample, log_prob, rng)
