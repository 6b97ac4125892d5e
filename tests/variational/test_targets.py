"""Targets: their log-densities, normalisers, moments and draws, each against another way to the same number."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import integrate, stats
from torch.autograd.functional import hessian, jacobian

from flowbench.errors import DataError, UsageError
from flowbench.variational import targets
from flowbench.variational.targets import logistic
from flowbench.variational.targets.target import Moments, Target

Float64 = NDArray[np.float64]

ENERGIES = "energy-1", "energy-2", "energy-3", "energy-4"
DRAWS = 100_000


@pytest.fixture(scope="module", params=targets.names())
def target(request: pytest.FixtureRequest) -> Target:
    return targets.load(request.param)


def rows(target: Target, n: int, scale: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return scale * torch.randn(n, target.dim, generator=torch.Generator().manual_seed(1)).to(dtype)


def test_a_target_says_what_it_is(target: Target) -> None:
    assert targets.load(target.name).name == target.name
    assert target.title
    assert target.source
    moments = target.moments
    for values in (moments.mean, moments.sd, moments.mean_stderr, moments.sd_stderr):
        assert values.shape == (target.dim,)
        assert values.dtype == torch.float64
        assert values.isfinite().all()
    assert (moments.sd > 0).all()
    assert not target.state_dict(), "a target is data, not a state to be saved"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_densities_and_gradients_are_finite_however_far_off(target: Target, dtype: torch.dtype) -> None:
    corners = rows(target, 64, 1, dtype).clamp(-1, 1)
    corners[0], corners[1], corners[2] = 1, -1, corners[2].sign()
    z = torch.cat([scale * corners for scale in (0, 1, 10, 1e3, 1e5)])
    z.requires_grad_()
    log_p = target(z)
    (gradient,) = torch.autograd.grad(log_p.sum(), z)
    assert log_p.shape == (len(z),)
    assert log_p.dtype == gradient.dtype == dtype
    assert log_p.isfinite().all()
    assert gradient.isfinite().all()


def test_a_row_has_the_same_log_density_alone(target: Target) -> None:
    z = rows(target, 5, 2)
    torch.testing.assert_close(torch.cat([target(row[None]) for row in z]), target(z))
    assert target(z[:0]).shape == (0,)


def test_single_precision_agrees_with_double(target: Target) -> None:
    z = rows(target, 100, 1)
    torch.testing.assert_close(target(z).double(), target(z.double()), rtol=1e-5, atol=1e-4)


def test_gradients_are_those_of_finite_differences(target: Target) -> None:
    assert torch.autograd.gradcheck(target, rows(target, 3, 1, torch.float64).requires_grad_())


def test_other_numbers_of_columns_are_refused(target: Target) -> None:
    for dim in (target.dim - 1, target.dim + 1):
        with pytest.raises((ValueError, RuntimeError)):
            target(torch.zeros(3, dim))


def test_draws_have_the_moments_that_are_promised(target: Target) -> None:
    z = target.draw(DRAWS, torch.Generator().manual_seed(0))
    if z is None:
        assert target.name == "logistic"
        return
    assert z.shape == (DRAWS, target.dim)
    for n in (0, 1):
        few = target.draw(n, torch.Generator())
        assert few is not None
        assert few.shape == (n, target.dim)
    moments, z = target.moments, z.double()
    assert ((z.mean(0) - moments.mean).abs() < 5 * z.std(0) / math.sqrt(DRAWS)).all()
    if target.name == "funnel":  # the variance of x_i² = exp(v) ε² is in draws that nobody sees
        z, moments = z[:, :1], Moments(*(moments.mean[:1], moments.sd[:1]) * 2, source="")
    squares = (z - moments.mean) ** 2
    assert ((squares.mean(0) - moments.sd**2).abs() < 5 * squares.std(0) / math.sqrt(DRAWS)).all()


def test_the_funnel_is_its_conditional_normals() -> None:
    funnel = targets.load("funnel")
    z = funnel.draw(50, torch.Generator().manual_seed(3))
    assert z is not None
    v, x = np.split(z.double().numpy(), [1], axis=1)
    expected = stats.norm(0, 3).logpdf(v[:, 0]) + stats.norm(0, np.exp(v / 2)).logpdf(x).sum(axis=1)
    np.testing.assert_allclose(funnel(z.double()).numpy(), expected, rtol=1e-12)


def test_draws_of_the_funnel_have_its_conditional_scale() -> None:
    funnel = targets.load("funnel")
    z = funnel.draw(20_000, torch.Generator().manual_seed(4))
    assert z is not None
    noise = z[:, 1:] / (z[:, :1] / 2).exp()
    assert stats.kstest(noise.flatten().numpy(), "norm").pvalue > 1e-3
    assert funnel.log_z == 0
    assert funnel.moments.sd.tolist() == pytest.approx([3] + [math.exp(9 / 4)] * 9)


def as_in_the_paper(name: str, z1: Float64, z2: Float64) -> Float64:
    """exp(-U) of table 1 and the wall, in its own words."""

    def bell(y: Float64, sd: float) -> Float64:
        return np.exp(-0.5 * (y / sd) ** 2)

    w1, w2, w3 = np.sin(2 * np.pi * z1 / 4), 3 * bell(z1 - 1, 0.6), 3 / (1 + np.exp(-(z1 - 1) / 0.3))
    energies: dict[str, Callable[[], Float64]] = {
        "energy-1": lambda: bell(np.hypot(z1, z2) - 2, 0.4) * (bell(z1 - 2, 0.6) + bell(z1 + 2, 0.6)),
        "energy-2": lambda: bell(z2 - w1, 0.4),
        "energy-3": lambda: bell(z2 - w1, 0.35) + bell(z2 - w1 + w2, 0.35),
        "energy-4": lambda: bell(z2 - w1, 0.4) + bell(z2 - w1 + w3, 0.35),
    }
    return energies[name]() * bell(np.maximum(np.abs(z1) - 4, 0), 0.4)


@pytest.mark.parametrize("name", ENERGIES)
def test_energies_are_those_of_the_paper(name: str) -> None:
    z = np.random.default_rng(0).uniform(-5, 5, (1000, 2))
    np.testing.assert_allclose(
        targets.load(name)(torch.from_numpy(z)).exp().numpy(), as_in_the_paper(name, *z.T), rtol=1e-9, atol=1e-300
    )


def test_energies_2_to_4_have_their_normalisers_in_closed_form() -> None:
    """Across z_2 they are Gaussians, whatever z_1 is: what is left is the length of the plateau."""
    root = math.sqrt(2 * math.pi)
    for name, sds in (("energy-2", 0.4), ("energy-3", 0.7), ("energy-4", 0.75)):
        assert targets.load(name).log_z == pytest.approx(math.log((8 + 0.4 * root) * root * sds), abs=1e-12)


@pytest.mark.parametrize("name", ENERGIES)
def test_normalisers_and_moments_agree_with_another_quadrature(name: str) -> None:
    """Simpson's rule on a window and at points of its own."""
    z1, z2 = np.linspace(-7.6, 7.6, 1521), np.linspace(-7, 5.5, 1001)
    p = as_in_the_paper(name, z1[:, None], z2[None])

    def integral(of: Float64) -> float:
        return float(integrate.simpson(integrate.simpson(p * of, z2), z1))

    one = np.ones((1, 1))
    z, target = integral(one), targets.load(name)
    assert target.log_z == pytest.approx(math.log(z), abs=1e-9)
    for i, along in enumerate((z1[:, None] * one, one * z2[None])):
        mean = integral(along) / z
        sd = math.sqrt(integral((along - mean) ** 2) / z)
        assert float(target.moments.mean[i]) == pytest.approx(mean, abs=1e-7)
        assert float(target.moments.sd[i]) == pytest.approx(sd, abs=1e-7)


def log_posterior(beta: Float64) -> Float64:
    """Of coefficients (N, 31), from labels of 0 and 1 and scipy's densities."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.preprocessing import StandardScaler

    embedded = load_breast_cancer()
    x = np.hstack([StandardScaler().fit_transform(embedded.data), np.ones((569, 1))])
    of_y_1 = 1 / (1 + np.exp(-np.clip(beta @ x.T, -700, 700)))
    likelihood = stats.bernoulli.logpmf(embedded.target, np.clip(of_y_1, 1e-300, 1 - 1e-16)).sum(axis=1)
    return np.asarray(stats.norm.logpdf(beta).sum(axis=1) + likelihood)


def test_the_regression_is_a_bernoulli_likelihood_and_a_normal_prior() -> None:
    z = 0.3 * np.random.default_rng(0).standard_normal((20, 31))
    found = targets.load("logistic")(torch.from_numpy(z)).numpy()
    np.testing.assert_allclose(found, log_posterior(z), rtol=1e-6)


def importance_sample(target: Target, mean: Float64, covariance: Float64, seed: int) -> tuple[Float64, Float64]:
    """Draws (N, D) from Student's distribution of 20 degrees, and their normalised weights (N,) under the target."""
    student = stats.multivariate_t(mean, covariance, df=20, seed=seed)
    z = student.rvs(20_000)
    log_ratio = target(torch.from_numpy(z)).numpy() - student.logpdf(z)
    weights = np.exp(log_ratio - log_ratio.max())
    return z, weights / weights.sum()


def test_moments_by_nuts_agree_with_importance_sampling() -> None:
    """About the mode, as wide as the curvature there says, and then about the moments that this gives."""
    target, mode = targets.load("logistic"), torch.zeros(31, dtype=torch.float64)
    for _ in range(10):  # Newton's method
        slope, curvature = (of(lambda z: -target(z[None])[0], mode) for of in (jacobian, hessian))
        mode = mode - torch.linalg.solve(curvature, slope)
    mean, covariance = mode.numpy(), torch.linalg.inv(curvature).numpy()
    for seed in range(3):
        z, weights = importance_sample(target, mean, covariance, seed)
        mean, covariance = weights @ z, np.cov(z.T, aweights=weights)
    assert 1 / (weights**2).sum() > 0.3 * len(z), "too few effective draws to say anything"

    moments = target.moments
    squares = (z - moments.mean.numpy()) ** 2
    for values, reference, stderr in (
        (z, moments.mean, moments.mean_stderr),
        (squares, moments.sd**2, 2 * moments.sd * moments.sd_stderr),
    ):
        estimate = weights @ values
        own = np.sqrt(weights**2 @ (values - estimate) ** 2)
        errors = (estimate - reference.numpy()) / np.hypot(own, stderr.numpy())
        # weighted squares have heavier tails than a normal: of 12 seeds the largest of 62 was 2.3 to 4.1; 1,500,000
        # draws have 2.1
        assert np.abs(errors).max() < 5
        assert np.mean(errors**2) < 2, "of 31 errors, each about 1"


def test_the_reference_of_the_regression_has_converged() -> None:
    path = Path(logistic.__file__).with_suffix(".toml")
    reference = tomllib.loads(path.read_text(encoding="utf-8"))
    assert reference["divergences"] == 0
    assert reference["largest_r_hat"] < 1.01
    assert reference["least_ess"] > 10_000
    assert [each["name"] for each in reference["coefficients"]] == logistic.breast_cancer().names
    moments = targets.load("logistic").moments
    assert (moments.mean_stderr < 0.01 * moments.sd).all()
    assert (moments.sd_stderr < 0.01 * moments.sd).all()


def test_other_rows_than_the_references_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    regression = logistic.breast_cancer()
    monkeypatch.setattr(logistic, "breast_cancer", lambda: regression._replace(sha256="0" * 64))
    with pytest.raises(DataError, match="breast cancer"):
        targets.load("logistic")


def test_a_name_that_is_none_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown target 'funel'") as error:
        targets.load("funel")
    assert error.value.hint is not None
    assert error.value.hint.startswith("did you mean funnel? there are: energy-1, ")
