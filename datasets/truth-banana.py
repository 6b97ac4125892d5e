"""A curved density in two columns, known exactly."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flowbench.data import Card, Splits
from flowbench.data.dataset import Float64
from flowbench.data.preparing.truth import draw_splits

CARD = Card(
    name="truth-banana",
    version=1,
    title="A banana: a parabola with Gaussian noise, turned by 30 degrees",
    source_url="datasets/truth-banana.py",
    licence="MIT",
    citation="flowbench; the curve is that of H. Haario, E. Saksman, J. Tamminen: Adaptive proposal distribution, 1999",
    dim=2,
    n_train=100_000,
    n_validation=10_000,
    n_test=20_000,
    space="raw",
    gaussian_test_ll=-2.773,
    gaussian_tolerance=0.01,
)

_CURVATURE = 0.6
_NOISE = 0.4
_ANGLE = np.pi / 6
# the turn makes both columns' conditionals non-Gaussian, in either order: without it one transform would be exact
_TURN = np.array([[np.cos(_ANGLE), -np.sin(_ANGLE)], [np.sin(_ANGLE), np.cos(_ANGLE)]])


def sample(n: int, rng: np.random.RandomState) -> Float64:
    """n rows: a ~ N(0, 1), b | a ~ N(0.6 (a² - 1), 0.4²), then (a, b) turned."""
    a = rng.normal(size=n)
    b = _CURVATURE * (a**2 - 1) + _NOISE * rng.normal(size=n)
    return np.asarray(np.column_stack([a, b]) @ _TURN.T)


def log_prob(x: Float64) -> Float64:
    """log p(a) + log p(b | a) in nats, (N,); a turn changes no volume."""
    a, b = (x @ _TURN).T
    residual = (b - _CURVATURE * (a**2 - 1)) / _NOISE
    return np.asarray(-0.5 * (a**2 + residual**2) - np.log(2 * np.pi * _NOISE))


def prepare(raw: Mapping[str, Path], rng: np.random.RandomState) -> Splits:
    """Independent draws."""
    return draw_splits(CARD, sample, log_prob, rng)
