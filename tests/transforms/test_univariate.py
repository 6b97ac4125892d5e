"""Univariate maps: each against independent mathematics, in the bulk, at the edges and far out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal

from flowbench.transforms import (
    Affine,
    Gated,
    GaussianMixture,
    LogisticSpline,
    RationalQuadraticSpline,
    Univariate,
)

pytestmark = pytest.mark.usefixtures("float64")

MAPS = {
    "affine": Affine(2.0),
    "gated": Gated(),
    "mixture of one": GaussianMixture(1),
    "mixture": GaussianMixture(7),
    "spline": RationalQuadraticSpline(8, 3.0),
    "spline of two bins": RationalQuadraticSpline(2, 0.5),
    "logistic spline": LogisticSpline([-6.0, -5.5, -1.02, 0.3, 4.0]),
    "logistic spline far out": LogisticSpline([11.0]),
}
EVERY_MAP = pytest.mark.parametrize("univariate", MAPS.values(), ids=MAPS.keys())


def parameters(univariate: Univariate, n: int, spread: float = 1.0) -> Tensor:
    torch.manual_seed(0)
    return univariate.start(torch.zeros(n), torch.ones(n)) + spread * torch.randn(univariate.parameters, n)


@EVERY_MAP
@pytest.mark.parametrize("far", [1.0, 10.0, 300.0])
def test_an_inverse_undoes_the_map_far_out_too(univariate: Univariate, far: float) -> None:
    theta = parameters(univariate, 2000)
    x = torch.linspace(-far, far, 2000)
    u, log_slope = univariate.forward(x, theta)
    back, log_slope_back = univariate.inverse(u, theta)
    assert u.isfinite().all()
    assert log_slope.isfinite().all()
    error = (back - x).abs() * log_slope.exp().clamp(max=1)  # where it is flat, no inverse knows better
    assert (error <= 1e-11 * (1 + u.abs())).all()
    torch.testing.assert_close(log_slope_back, -log_slope, rtol=1e-6, atol=1e-6)


@EVERY_MAP
def test_a_log_derivative_is_the_derivatives(univariate: Univariate) -> None:
    theta = parameters(univariate, 500)
    x = torch.linspace(-4, 4, 500, requires_grad=True)
    u, log_slope = univariate.forward(x, theta)
    (slope,) = torch.autograd.grad(u.sum(), x)
    torch.testing.assert_close(log_slope, slope.log(), rtol=1e-8, atol=1e-8)


@EVERY_MAP
def test_the_density_is_that_of_what_the_map_makes_standard_normal(univariate: Univariate) -> None:
    theta, x = parameters(univariate, 500), torch.linspace(-6, 6, 500)
    u, log_slope = univariate.forward(x, theta)
    torch.testing.assert_close(univariate.density(x, theta), Normal(0.0, 1.0).log_prob(u) + log_slope)


@EVERY_MAP
def test_draws_have_the_density(univariate: Univariate) -> None:
    n = 200_000
    theta = parameters(univariate, 1).expand(-1, n)
    noise = torch.stack([torch.randn(n), torch.rand(n)])[: univariate.draws]
    u, _ = univariate.forward(univariate.draw(noise, theta), theta)
    places = torch.linspace(-2.5, 2.5, 11)
    found = (u[:, None] <= places).double().mean(0)
    assert (found - Normal(0.0, 1.0).cdf(places)).abs().max() < 5 * 0.5 / n**0.5


def test_a_mixture_is_torchs() -> None:
    mixture, n = GaussianMixture(5), 300
    theta = parameters(mixture, n)
    logits, means, log_scales = (part.t() for part in theta.split(5))
    torchs = MixtureSameFamily(Categorical(logits=logits), Normal(means, log_scales.exp()))
    x = torch.linspace(-8, 8, n)
    torch.testing.assert_close(mixture.density(x, theta), torchs.log_prob(x))
    u, _ = mixture.forward(x, theta)
    torch.testing.assert_close(Normal(0.0, 1.0).cdf(u), torchs.cdf(x), rtol=1e-9, atol=1e-12)


def test_a_mixtures_widths_are_held_where_columns_lie_far_out() -> None:
    mixture, x = GaussianMixture(2), torch.linspace(-300, 300, 9)
    theta = mixture.start(torch.zeros(9), torch.ones(9))
    theta[-2:] = torch.tensor([[1e3], [2.5]])
    assert mixture.density(x, theta).isfinite().all()
    theta[2:4], theta[-2:] = 0, 1e9
    drawn = mixture.draw(torch.stack([torch.ones(9), torch.rand(9)]), theta)
    torch.testing.assert_close(drawn, torch.full((9,), 4.0).exp())


def test_a_spline_is_nflows() -> None:
    nflows = pytest.importorskip("nflows.transforms.splines", reason="needs nflows")
    spline, n = RationalQuadraticSpline(6, 2.5), 400
    theta, x = parameters(spline, n, 2.0), torch.linspace(-3, 3, n)
    widths, heights, slopes = theta.t().split([6, 6, 5], 1)
    # there a zero is a slope of LEAST + log 2, here of 1
    shift = torch.log(torch.expm1(torch.tensor(1 - 1e-3)))
    raw = {"unnormalized_widths": widths, "unnormalized_heights": heights, "unnormalized_derivatives": slopes + shift}
    for inverse, own in ((False, spline.forward), (True, spline.inverse)):
        found, log_slope = nflows.unconstrained_rational_quadratic_spline(x, **raw, inverse=inverse, tail_bound=2.5)
        torch.testing.assert_close(own(x, theta), (found, log_slope), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_spline_is_whole_at_its_edges(dtype: torch.dtype) -> None:
    spline = RationalQuadraticSpline(4, 2.0)
    theta = parameters(spline, 1, 8.0).to(dtype)
    edges = torch.cat([spline._edges(theta[:4])[:, 0], torch.tensor([2.0, -2.0, 1e30, -1e30], dtype=dtype)])
    near = torch.cat([torch.nextafter(edges, edges + side) for side in (-1, 0, 1)]).sort().values
    u, log_slope = spline.forward(near, theta.expand(-1, len(near)))
    assert u.isfinite().all()
    assert log_slope.isfinite().all()
    assert (u.diff() >= -1e-6 * (1 + u[1:].abs())).all()


@pytest.mark.parametrize("bound", [None, 2.0])
def test_an_affine_map_may_begin_where_rows_are_standardised(bound: float | None) -> None:
    mean, scale = torch.tensor([-13.0, 0.0, 2.0]), torch.tensor([0.4, 1.0, 5.0])
    x = mean + scale * torch.tensor([[-1.0], [1.0]])
    for from_rows, expected in ((True, torch.tensor([[-1.0], [1.0]]).expand(2, 3)), (False, x)):
        univariate = Affine(bound, from_rows=from_rows)
        theta = univariate.start(mean, scale)[:, None].expand(2, 2, 3)
        assert torch.allclose(univariate.forward(x, theta)[0], expected)
    assert Affine(1.0, from_rows=True).start(mean, scale).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gate_has_its_digits_where_it_is_open_and_where_it_is_shut(dtype: torch.dtype) -> None:
    gate, proposed, x = torch.linspace(-80, 80, 33, dtype=dtype), torch.tensor(3.0), torch.tensor(-2.0)
    theta = torch.stack([proposed.to(dtype).expand(33), gate]).requires_grad_()
    u, log_slope = Gated().forward(x.to(dtype), theta)
    s = gate.double()
    kept = 1 / (1 + (-s).exp())
    limit = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(u.double(), kept * x + (1 - kept) * proposed, rtol=limit, atol=limit)
    torch.testing.assert_close(log_slope.double(), -torch.log1p((-s).exp()), rtol=limit, atol=0)
    (moved,) = torch.autograd.grad(u.sum(), theta, retain_graph=True)
    torch.testing.assert_close(moved[0].double(), 1 / (1 + s.exp()), rtol=limit, atol=0)
    back, log_slope_back = Gated().inverse(u.detach()[16:], theta[:, 16:])
    torch.testing.assert_close(back.double(), torch.full((17,), -2.0), rtol=limit, atol=limit)
    assert torch.equal(log_slope_back, -log_slope[16:])


def test_a_gate_begins_nearly_open() -> None:
    for bias, kept in ((1.0, 0.731059), (2.0, 0.880797)):
        theta = Gated(bias).start(torch.tensor([5.0]), torch.tensor([3.0]))
        assert Gated().forward(torch.tensor([10.0]), theta)[0].item() == pytest.approx(10 * kept, rel=1e-6)


def test_a_spline_begins_as_the_identity() -> None:
    spline, x = RationalQuadraticSpline(8, 3.0), torch.linspace(-4, 4, 99)
    u, log_slope = spline.forward(x, spline.start(torch.zeros(99), torch.ones(99)))
    torch.testing.assert_close(u, x)
    torch.testing.assert_close(log_slope, torch.zeros(99), rtol=0, atol=1e-12)


def test_a_mixtures_tails_are_finite_in_single_precision() -> None:
    mixture = GaussianMixture(3)
    theta = parameters(mixture, 400).float()
    x = torch.linspace(-200, 200, 400, dtype=torch.float32)
    u, log_slope = mixture.forward(x, theta)
    back, _ = mixture.inverse(u, theta)
    assert log_slope.isfinite().all()
    torch.testing.assert_close(back, x, rtol=1e-4, atol=1e-4)
