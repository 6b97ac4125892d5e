"""The exact densities, against code that shares nothing with them."""

from types import ModuleType
from typing import cast

import numpy as np
import pytest
from scipy import integrate, stats

from flowbench.data import recipe


def truth(name: str) -> ModuleType:
    return cast(ModuleType, recipe(f"truth-{name}"))


@pytest.mark.parametrize("name", ["banana", "mixture"])
def test_integrates_to_one(name: str) -> None:
    side = np.linspace(-12, 16, 1401)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.exp(truth(name).log_prob(grid)).reshape(len(side), -1)
    assert integrate.trapezoid(integrate.trapezoid(density, side), side) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["banana", "mixture"])
def test_draws_follow_the_density(name: str) -> None:
    """The share of draws in each cell of the plane is the density's integral over it."""
    draws = truth(name).sample(400_000, np.random.RandomState(1))
    side = np.linspace(-2, 2, 801)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.exp(truth(name).log_prob(grid)).reshape(801, 801)
    for left in range(0, 800, 160):
        for low in range(0, 800, 160):
            x, y = side[left : left + 161], side[low : low + 161]
            expected = integrate.trapezoid(integrate.trapezoid(density[left : left + 161, low : low + 161], y), x)
            inside = (draws > (x[0], y[0])).all(axis=1) & (draws <= (x[-1], y[-1])).all(axis=1)
            assert inside.mean() == pytest.approx(expected, abs=4.5 * (expected / len(draws)) ** 0.5 + 1e-4)


def test_gaussian_is_scipys() -> None:
    module = truth("gaussian")
    draws = module.sample(50_000, np.random.RandomState(2))
    exact = stats.multivariate_normal(np.zeros(16), module.covariance())
    np.testing.assert_allclose(module.log_prob(draws), exact.logpdf(draws), rtol=1e-10)
    assert -module.log_prob(draws).mean() == pytest.approx(exact.entropy(), abs=4 * (8 / 50_000) ** 0.5)
    np.testing.assert_allclose(np.diag(module.covariance()), 1)
    np.testing.assert_allclose(np.cov(draws.T), module.covariance(), atol=0.03)


def test_banana_has_its_entropy() -> None:
    draws = truth("banana").sample(200_000, np.random.RandomState(3))
    # a and b | a are Gaussian, and a turn changes no volume: the entropy is the sum of both
    entropy = stats.norm(0, 1).entropy() + stats.norm(0, 0.4).entropy()
    assert -truth("banana").log_prob(draws).mean() == pytest.approx(entropy, abs=0.01)


def test_student_is_a_chain_of_scipys_t() -> None:
    module = truth("student")
    draws = module.sample(1_000, np.random.RandomState(4))
    total = np.zeros(len(draws))
    for i in range(8):
        before = draws[:, i - 1] if i > 0 else np.zeros(len(draws))
        earlier = draws[:, i - 2] if i > 1 else np.zeros(len(draws))
        centre = 0.8 * np.sin(2 * before) + 0.3 * np.tanh(earlier)
        spread = 0.8 - 0.5 * np.exp(-(before**2) / 2)
        total += stats.t(df=5, loc=centre, scale=spread).logpdf(draws[:, i])
    np.testing.assert_allclose(module.log_prob(draws), total, rtol=1e-10)


def test_student_draws_are_independent_t_once_undone() -> None:
    module = truth("student")
    x = np.pad(module.sample(20_000, np.random.RandomState(5)), ((0, 0), (2, 0)))
    residuals = (x[:, 2:] - module.location(x[:, 1:-1], x[:, :-2])) / module.scale(x[:, 1:-1])
    assert min(stats.kstest(residuals[:, i], stats.t(5).cdf).pvalue for i in range(8)) > 1e-4
    correlations = np.abs(stats.spearmanr(residuals).statistic - np.eye(8))
    assert correlations.max() < 5 / 20_000**0.5


def linear_terms(module: ModuleType, z: np.ndarray, x: np.ndarray) -> np.ndarray:
    """log p(z) + log p(x | z), (N,), by scipy's normal densities."""
    noise = np.sqrt(module.NOISE_VARIANCES)
    given = stats.norm(z @ module.LOADINGS.T + module.OFFSET, noise).logpdf(x).sum(1)
    return np.asarray(stats.norm.logpdf(z).sum(1) + given)


def test_linear_is_its_joint_density_over_its_posterior_at_any_latents() -> None:
    """log p(x) = log p(z) + log p(x | z) − log p(z | x), whatever z is."""
    module, rng = truth("linear"), np.random.RandomState(6)
    x, z = 2 * rng.normal(size=(50, 12)), 3 * rng.normal(size=(50, 6))
    means, shared = module.posterior(x)
    assert (means.shape, shared.shape, means.dtype) == ((50, 6), (6, 6), np.float64)
    after = stats.multivariate_normal(np.zeros(6), shared).logpdf(z - means)
    np.testing.assert_allclose(linear_terms(module, z, x) - after, module.log_prob(x), rtol=1e-10)


def test_linear_draws_are_those_of_scipys_gaussian() -> None:
    module = truth("linear")
    draws = module.sample(50_000, np.random.RandomState(7))
    exact = stats.multivariate_normal(module.OFFSET, module.covariance())
    np.testing.assert_allclose(module.log_prob(draws), exact.logpdf(draws), rtol=1e-10)
    assert -module.log_prob(draws).mean() == pytest.approx(exact.entropy(), abs=4 * (6 / 50_000) ** 0.5)
    np.testing.assert_allclose(draws.mean(0), module.OFFSET, atol=0.05)
    np.testing.assert_allclose(np.cov(draws.T), module.covariance(), atol=0.15)
    assert np.diag(module.covariance()).min() > 0.5


def test_linear_posteriors_bound_is_the_truth_and_that_of_independent_latents_falls_short() -> None:
    """E_q log p(x, z) − log q(z) by draws; 1.546 nats are KL(q ‖ p(z | x)) of the best diagonal q in closed form."""
    module, rng, n = truth("linear"), np.random.RandomState(8), 100_000
    means, shared = module.posterior(x := module.sample(1, rng))
    widths = np.diag(np.linalg.inv(shared)) ** -0.5
    assert np.abs(shared / np.sqrt(np.outer(np.diag(shared), np.diag(shared))) - np.eye(6)).max() > 0.6
    for factor, lost in ((np.linalg.cholesky(shared), 0.0), (np.diag(widths), 1.546)):
        noise = rng.normal(size=(n, 6))
        log_q = stats.norm.logpdf(noise).sum(1) - np.linalg.slogdet(factor)[1]
        bounds = linear_terms(module, means + noise @ factor.T, np.repeat(x, n, 0)) - log_q
        error = 4 * bounds.std() / n**0.5 + 1e-3 * (lost > 0) + 1e-9
        assert module.log_prob(x)[0] - bounds.mean() == pytest.approx(lost, abs=error)
