"""Posteriors against calculus, and the bound where the truth is known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from latent_cases import POSTERIORS, model, posterior
from torch import nn

from flowbench.data.registry import recipe
from flowbench.transforms import standard_normal
from flowbench.variational.bound import LatentModel, VariationalBound
from flowbench.variational.evaluation import Evaluation, doubts_of, evaluate
from flowbench.variational.gaussians import Full
from flowbench.variational.likelihoods import LinearGaussian
from flowbench.variational.networks import ConvolutionalDecoder, ConvolutionalEncoder, shrunk
from flowbench.variational.posterior import Posterior
from flowbench.variational.timing import by_passes, works

pytestmark = pytest.mark.usefixtures("float64")

EACH = pytest.mark.parametrize("name", POSTERIORS)


@EACH
@pytest.mark.parametrize("latents", [1, 2, 5])
def test_a_draw_has_the_density_of_the_point_that_it_is(name: str, latents: int) -> None:
    q = posterior(name, latents)
    encoded = q(torch.randn(6, 5))
    z, log_prob = q.draw(encoded, torch.randn(6, latents))
    torch.testing.assert_close(q.log_prob(encoded, z), log_prob, rtol=0, atol=1e-8)


@EACH
def test_its_density_is_the_noise_s_over_the_jacobian(name: str) -> None:
    q = posterior(name).requires_grad_(False)
    encoded, noise = q(torch.randn(1, 5)), torch.randn(1, 4)
    jacobian = torch.autograd.functional.jacobian(lambda u: q.draw(encoded, u)[0][0], noise)[:, 0]
    expected = standard_normal(noise).sum() - torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(q.draw(encoded, noise)[1][0], expected, rtol=0, atol=1e-9)


@EACH
def test_gradients_through_draws_are_those_of_the_equations(name: str) -> None:
    """Of all weights, the encoder's by way of what it gives, too."""
    q, x, noise = posterior(name), torch.randn(6, 5), torch.randn(6, 4)

    def climbed() -> torch.Tensor:
        z, log_prob = q.draw(q(x), noise)
        return (z.sin().sum(1) - log_prob).mean()

    found = torch.autograd.grad(climbed(), list(q.parameters()))
    if q.flow is not None:  # as written: without an engine

        def as_written(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            given, own = q.flow.apart(rows)  # type: ignore[union-attr]
            out, log_det = q.flow.transform.inverse(own, given)  # type: ignore[union-attr, call-arg]
            return torch.cat([given, out], 1), log_det  # type: ignore[list-item]

        q.flow.to_data = as_written  # type: ignore[method-assign]
    expected = torch.autograd.grad(climbed(), list(q.parameters()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_the_gated_iaf_is_algorithm_1() -> None:
    """Kingma et al. 2016: z ← σ ⊙ z + (1 − σ) ⊙ m with (m, s) = AutoregressiveNN(z, h), σ = sigmoid(s)."""
    q = posterior("iaf", update="gated")
    encoded, noise = q(torch.randn(3, 5)), torch.randn(3, 4)
    mean, log_scale, h = encoded[:, :4], encoded[:, 4:8], encoded[:, 8:]
    z = mean + log_scale.exp() * noise
    log_prob = (standard_normal(noise) - log_scale).sum(1)
    assert q.flow is not None
    for leaf, _ in reversed(list(q.flow.transform.leaves())):
        if not leaf.context:
            z = z.flip(1)  # the order is reversed between the steps
            continue
        m, s = leaf.conditioner.parameters_of(torch.cat([h, z], 1))
        gate = torch.sigmoid(s)
        z = gate * z + (1 - gate) * m
        log_prob = log_prob - gate.log().sum(1)
    found = q.draw(encoded, noise)
    torch.testing.assert_close(found[0], z, rtol=0, atol=1e-12)
    torch.testing.assert_close(found[1], log_prob, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["iaf", "maf"])
def test_the_slow_direction_by_passes_is_that_by_substitution(name: str) -> None:
    found = works(posterior(name), torch.randn(7, 5))
    slow = "density" if name == "iaf" else "sample"
    assert set(found) == {
        ("sample", "one pass" if name == "iaf" else "substitution"),
        ("density", "substitution" if name == "iaf" else "one pass"),
        (slow, "passes"),
    }
    q = posterior(name)
    encoded, rows = q(torch.randn(7, 5)), torch.randn(7, 4)
    context = encoded[:, q.gaussian.parameters :]
    assert q.flow is not None
    by = by_passes(q.flow, context, rows, to_data=name == "maf")
    direct = (q.flow.to_data if name == "maf" else q.flow.to_noise)(torch.cat([context, rows], 1))
    torch.testing.assert_close(by[0], direct[0][:, -4:], rtol=0, atol=1e-8)
    torch.testing.assert_close(by[1], direct[1], rtol=0, atol=1e-8)


def exact(planted: float = 1.0) -> tuple[LatentModel, torch.Tensor, np.ndarray]:
    """The known linear-Gaussian model with its true posterior, rows of it, and their log p(x)."""
    module: Any = recipe("truth-linear")
    x = module.sample(50, np.random.RandomState(0))
    _, covariance = module.posterior(x[:1])
    origin, unit = module.posterior(np.zeros((1, x.shape[1])))[0], module.posterior(np.eye(x.shape[1]))[0]
    latents = covariance.shape[0]
    gaussian = Full(latents)
    encoder = nn.Linear(x.shape[1], gaussian.parameters)
    factor = np.linalg.cholesky(covariance * planted)
    rows, columns = np.tril_indices(latents, -1)
    with torch.no_grad():
        encoder.weight.zero_()
        encoder.weight[:latents] = torch.as_tensor((unit - origin).T)
        said = np.concatenate([origin[0], np.log(np.diag(factor)), factor[rows, columns]])
        encoder.bias.copy_(torch.as_tensor(said))
    likelihood = LinearGaussian(module.LOADINGS, module.OFFSET, module.NOISE_VARIANCES)
    return LatentModel(likelihood, Posterior(encoder, gaussian, None), latents), torch.as_tensor(x), module.log_prob(x)


def test_with_the_true_posterior_each_draw_s_bound_is_log_p() -> None:
    latent, x, truth = exact()
    found = evaluate(latent, x, 3, seed=0)
    np.testing.assert_allclose(found.bound, truth, atol=1e-9)
    np.testing.assert_allclose(found.log_likelihood, truth, atol=1e-9)
    np.testing.assert_allclose(found.ess, 3, atol=1e-9)
    assert found.bias == pytest.approx(0, abs=1e-9)
    assert evaluate(latent, x, 1, seed=0).bias is None
    assert doubts_of(found, truth) == ()


def test_a_wider_posterior_is_below_by_its_divergence_and_importance_samples_mend_it() -> None:
    latent, x, truth = exact(planted=1.5)
    found = evaluate(latent, x, 4000, seed=0)
    divergence = 0.5 * 6 * (1.5 - 1 - math.log(1.5))
    assert (truth - found.bound).mean() == pytest.approx(divergence, abs=0.01)
    assert np.abs(truth - found.log_likelihood).max() < 0.1
    assert found.ess.mean() < 3900
    assert "below log p(x)" in doubts_of(found, truth)[0]


@pytest.mark.parametrize(("weight", "moves"), [(1.0, False), (0.9, True)])
def test_at_the_truth_the_bound_has_no_gradient_and_a_lighter_divergence_has(weight: float, moves: bool) -> None:
    latent, x, _ = exact()
    torch.manual_seed(0)
    noise = torch.randn(50 * 400, 6)
    x = x.repeat(400, 1)
    _, reconstruction, divergence = latent.terms(x, latent.posterior(x), noise)
    loss = weight * divergence.mean() - reconstruction.mean()
    bias = torch.autograd.grad(loss, latent.posterior.encoder.bias)[0][6:12]  # of the log of L's diagonal
    assert bool((bias.abs() > 0.05).any()) is moves


def test_the_weight_of_the_divergence_grows_and_what_is_free_costs_nothing() -> None:
    x = torch.rand(20, 5)
    losses = []
    for options in ({"warmup": 4}, {}, {"free": 1e3}):
        latent = model("iaf", **options)
        torch.manual_seed(1)
        losses.append(float(latent.backpropagate(x)))
        assert float(latent.taken) == 1
    torch.manual_seed(1)
    plain = model("iaf")
    torch.manual_seed(1)
    seen = plain.likelihood.seen(x)
    _, reconstruction, divergence = plain.terms(seen, plain.posterior(seen), torch.randn(20, 4))
    d, r = float(divergence.mean().detach()), float(reconstruction.mean().detach())
    assert losses == pytest.approx([0.25 * d - r, d - r, 4000 - r])


def test_validation_draws_the_same_each_time_and_few_rows_more_often() -> None:
    latent, rows = model("iaf"), torch.rand(3, 5).round()
    bound = VariationalBound(latent, 8, seed=5)
    first = bound.value(rows)
    torch.randn(10)
    assert bound.value(rows) == first
    assert bound.value(rows) == pytest.approx(float(evaluate(latent, rows, 4000, 1).bound.mean()), abs=0.1)


def test_what_is_not_finite_is_blamed() -> None:
    latent = model("iaf")
    bound = VariationalBound(latent, 8, seed=5)
    assert bound.culprit(torch.rand(3, 5)) is None
    with torch.no_grad():
        latent.likelihood.decoder[-1].bias[0] = math.nan  # type: ignore[attr-defined]
    assert bound.culprit(torch.rand(3, 5)) == "the likelihood"
    with torch.no_grad():
        latent.posterior.encoder[-1].bias[0] = math.nan  # type: ignore[index]
    assert bound.culprit(torch.rand(3, 5)) == "the encoder"


def test_the_estimate_s_figures_are_those_of_its_weights() -> None:
    latent, rows = model("maf"), torch.rand(4, 5).round()
    parts = list(latent.draws(rows, 5, torch.Generator().manual_seed(3)))
    weights = np.concatenate([(a - b).detach().numpy() for _, a, b in parts])
    found = evaluate(latent, rows, 5, 3)
    np.testing.assert_allclose(found.log_likelihood, np.log(np.exp(weights).mean(1)), atol=1e-10)
    np.testing.assert_allclose(found.bound, weights.mean(1), atol=1e-10)
    share = np.exp(weights) / np.exp(weights).sum(1, keepdims=True)
    np.testing.assert_allclose(found.ess, 1 / (share**2).sum(1), atol=1e-8)


def test_estimates_that_hang_on_a_few_draws_are_doubted() -> None:
    zeros, none = np.zeros(40), np.zeros((40, 2))
    found = Evaluation(zeros, zeros, zeros, zeros, np.full(40, 1.2), zeros - 0.3, none, none, samples=128)
    assert found.bias == pytest.approx(0.3)
    low, few = doubts_of(found)
    assert "0.30 nats too low at the least" in low
    assert "a few draws" in few
    (only,) = doubts_of(replace(found, samples=1))
    assert "is the bound" in only


def test_the_bias_is_at_least_what_half_of_the_samples_lack() -> None:
    latent, x, truth = exact(planted=0.36)  # too narrow: weights have no variance
    found = evaluate(latent, x.repeat(20, 1), 64, seed=0)
    lacks = float(np.mean(np.tile(truth, 20) - found.log_likelihood))
    assert found.bias is not None
    assert 0.02 < found.bias < lacks
    halves = [evaluate(latent, x, 1, seed=1), evaluate(latent, x, 2, seed=1)]
    assert halves[0].active is None
    np.testing.assert_allclose(halves[1].by_half, halves[1].bound, atol=1e-12)  # of two, a half is a draw


def test_latents_that_only_draws_have_vary_are_not_active() -> None:
    latent = model("diagonal")
    last = latent.posterior.encoder[-1]  # type: ignore[index]
    with torch.no_grad():  # q(z | x) = N(0, I) but for the first latent
        last.weight.zero_()
        last.bias.zero_()
        last.weight[0] = 5
    rows = torch.rand(400, 5)
    assert evaluate(latent, rows, 4, seed=0).active == 1
    assert evaluate(latent, rows, 400, seed=0).active == 1


@pytest.mark.parametrize("side", [1, 2, 7, 8, 28])
@pytest.mark.parametrize("maps", [(), (3,), (2, 3, 4)])
def test_convolutions_take_squares_of_any_side(side: int, maps: tuple[int, ...]) -> None:
    encoder = ConvolutionalEncoder(side * side, maps, 9, 5)
    decoder = ConvolutionalDecoder(4, 9, maps, side * side)
    assert encoder(torch.rand(2, side * side)).shape == (2, 5)
    assert decoder(torch.rand(2, 4)).shape == (2, side * side)
    assert shrunk(28, 3) == [28, 14, 7, 4]
