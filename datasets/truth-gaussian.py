"""A correlated Gaussian in 16 columns, whose log-density is known exactly."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flowbench.data import Card, Splits
from flowbench.data.dataset import Float64
from flowbench.data.preparing.truth import draw_splits

CARD = Card(
    name="truth-gaussian",
    version=1,
    title="A correlated Gaussian: unit variances, a covariance of condition number about 20",
    source_url="datasets/truth-gaussian.py",
    licence="MIT",
    citation="flowbench",
    dim=16,
    n_train=100_000,
    n_validation=10_000,
    n_test=20_000,
    space="raw",
    gaussian_test_ll=-19.862,
    gaussian_tolerance=0.01,
)


def covariance() -> Float64:
    """The covariance (16, 16): eigenvalues from 1 to 20 in directions along no column, scaled to unit variances."""
    directions, _ = np.linalg.qr(np.random.RandomState(16).normal(size=(CARD.dim, CARD.dim)))
    skewed = directions * np.geomspace(1, 20, CARD.dim) @ directions.T
    scale = np.sqrt(np.diag(skewed))
    return np.asarray(skewed / np.outer(scale, scale))


def sample(n: int, rng: np.random.RandomState) -> Float64:
    """n rows L e, with e standard normal and L L^T the covariance."""
    return np.asarray(rng.normal(size=(n, CARD.dim)) @ np.linalg.cholesky(covariance()).T)


def log_prob(x: Float64) -> Float64:
    """log N(x; 0, S) in nats, (N,)."""
    _, log_det = np.linalg.slogdet(covariance())
    distances = np.einsum("ni,ni->n", x, np.linalg.solve(covariance(), x.T).T)
    return np.asarray(-0.5 * (distances + log_det + CARD.dim * np.log(2 * np.pi)))


def prepare(raw: Mapping[str, Path], rng: np.random.RandomState) -> Splits:
    """Independent draws."""
    return draw_splits(CARD, sample, log_prob, rng)
