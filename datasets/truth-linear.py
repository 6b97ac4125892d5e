"""A linear-Gaussian latent variable model in 12 columns: its density and its posterior are known exactly.

It is factor analysis, z ~ N(0, I), x | z ~ N(W z + b, diag(ψ)), and p(x) a Gaussian. What a variational posterior loses
can be measured on it: the bound of the exact posterior is log p(x), and the best with independent latents 1.546 nats
below it.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flowbench.data import Card, Splits
from flowbench.data.dataset import Float64
from flowbench.data.preparing.truth import draw_splits

CARD = Card(
    name="truth-linear",
    version=1,
    title="A linear-Gaussian model of 6 latent variables, strongly correlated given a row",
    source_url="datasets/truth-linear.py",
    licence="MIT",
    citation="flowbench; factor analysis: C. M. Bishop: Pattern Recognition and Machine Learning, 2006, 12.2",
    dim=12,
    n_train=20_000,
    n_validation=2_000,
    n_test=5_000,
    space="raw",
    gaussian_test_ll=-18.318,
    gaussian_tolerance=0.01,
)

LATENTS = 6
"""K, the number of latent variables."""

# what all loadings have in common makes latents alternatives to each other: given a row, one less is another more
LOADINGS: Float64 = 0.5 * (np.random.RandomState(12).normal(size=(CARD.dim, LATENTS)) + 0.8)
"""W (D, K)."""

OFFSET: Float64 = np.linspace(-1, 1, CARD.dim)
"""b (D,)."""

NOISE_VARIANCES: Float64 = np.linspace(0.2, 0.8, CARD.dim)
"""ψ (D,): the variance of each column given the latent variables."""

for _array in (LOADINGS, OFFSET, NOISE_VARIANCES):
    _array.flags.writeable = False


def covariance() -> Float64:
    """Of the rows (D, D): W Wᵀ + diag(ψ)."""
    return np.asarray(LOADINGS @ LOADINGS.T + np.diag(NOISE_VARIANCES))


def posterior(x: Float64) -> tuple[Float64, Float64]:
    """p(z | x) = N(M(x), S) of rows x (N, D): the means (N, K), and the covariance (K, K) that all rows share.

    S = (I + Wᵀ diag(1/ψ) W)⁻¹ and M(x) = S Wᵀ diag(1/ψ) (x − b).
    """
    weighted = LOADINGS / NOISE_VARIANCES[:, None]
    shared = np.linalg.inv(np.eye(LATENTS) + LOADINGS.T @ weighted)
    shared = (shared + shared.T) / 2
    return np.asarray((x - OFFSET) @ weighted @ shared), np.asarray(shared)


def sample(n: int, rng: np.random.RandomState) -> Float64:
    """n rows W z + b + sqrt(ψ) e, with z and e standard normal."""
    z = rng.normal(size=(n, LATENTS))
    return np.asarray(z @ LOADINGS.T + OFFSET + np.sqrt(NOISE_VARIANCES) * rng.normal(size=(n, CARD.dim)))


def log_prob(x: Float64) -> Float64:
    """log N(x; b, W Wᵀ + diag(ψ)) in nats, (N,)."""
    _, log_det = np.linalg.slogdet(covariance())
    centred = x - OFFSET
    distances = np.einsum("ni,ni->n", centred, np.linalg.solve(covariance(), centred.T).T)
    return np.asarray(-0.5 * (distances + log_det + CARD.dim * np.log(2 * np.pi)))


def prepare(raw: Mapping[str, Path], rng: np.random.RandomState) -> Splits:
    """Independent draws."""
    return draw_splits(CARD, sample, log_prob, rng)
