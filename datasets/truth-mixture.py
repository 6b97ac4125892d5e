"""Eight Gaussians on a circle: many modes in two columns, with a density known exactly."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flowbench.data import Card, Splits
from flowbench.data.dataset import Float64
from flowbench.data.preparing.truth import draw_splits

CARD = Card(
    name="truth-mixture",
    version=1,
    title="Eight equal Gaussians on a circle",
    source_url="datasets/truth-mixture.py",
    licence="MIT",
    citation="flowbench",
    dim=2,
    n_train=100_000,
    n_validation=10_000,
    n_test=20_000,
    space="raw",
    gaussian_test_ll=-2.840,
    gaussian_tolerance=0.01,
)

_MODES = 8
_RADIUS = 1.4
_WIDTH = 0.15
_ANGLES = 2 * np.pi * np.arange(_MODES) / _MODES
_CENTRES = _RADIUS * np.column_stack([np.cos(_ANGLES), np.sin(_ANGLES)])


def sample(n: int, rng: np.random.RandomState) -> Float64:
    """n rows: a centre uniformly, plus noise of standard deviation 0.15."""
    return np.asarray(_CENTRES[rng.randint(_MODES, size=n)] + _WIDTH * rng.normal(size=(n, 2)))


def log_prob(x: Float64) -> Float64:
    """log of the mean of the eight densities in nats, (N,)."""
    distances = ((x[:, None, :] - _CENTRES) ** 2).sum(axis=-1)
    exponents = np.logaddexp.reduce(-0.5 * distances / _WIDTH**2, axis=1)
    return np.asarray(exponents - np.log(_MODES * 2 * np.pi * _WIDTH**2))


def prepare(raw: Mapping[str, Path], rng: np.random.RandomState) -> Splits:
    """Independent draws."""
    return draw_splits(CARD, sample, log_prob, rng)
