"""Density: own units, bits per pixel, draws in raw units."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from flow_cases import shaken

from flowbench.data import preprocessing as steps
from flowbench.errors import DataError, DivergedError
from flowbench.flows.core.density import ROWS, Density

STANDARDISE = steps.Standardise.of(np.array([5.0, -300.0]), np.array([1e-3, 40.0]))


def test_a_density_is_the_flows_and_the_jacobian() -> None:
    density = Density(shaken("maf", 2).double(), (STANDARDISE,))
    x = np.random.RandomState(0).normal(size=(ROWS + 7, 2)) * STANDARDISE.scale + STANDARDISE.location
    u = torch.from_numpy((x - STANDARDISE.location) / STANDARDISE.scale)
    inside = density.flow(u).detach().numpy()
    np.testing.assert_allclose(density.log_prob(x), inside - np.log(STANDARDISE.scale).sum(), rtol=1e-12)
    np.testing.assert_allclose(density.in_own_units(u, inside), density.log_prob(x), rtol=1e-12)
    np.testing.assert_allclose(Density(density.flow).log_prob(u.numpy()), inside, rtol=1e-12)


@pytest.mark.parametrize(("alpha", "levels"), [(1e-6, 256), (0.01, 17)])
def test_pixel_values_have_the_bits_of_the_papers_formula(alpha: float, levels: int) -> None:
    density = Density(
        shaken("realnvp", 4).double(), (steps.Dequantise(steps=(1.0,)), steps.Logit(alpha=alpha, levels=levels))
    )
    pixels = np.random.RandomState(0).randint(0, levels, (50, 4)).astype(np.float64)
    z = (pixels + 0.5) / levels
    s = alpha + (1 - 2 * alpha) * z
    u = torch.from_numpy(np.log(s) - np.log1p(-s))
    lls = density.flow(u).detach().numpy()
    on_unit_interval = lls + np.log((1 - 2 * alpha) / (s * (1 - s))).sum(1)
    expected = math.log2(levels) - on_unit_interval / (4 * math.log(2))
    np.testing.assert_allclose(density.bits_per_pixel(u, lls), expected, rtol=1e-9)
    np.testing.assert_allclose(-density.log_prob(pixels) / (4 * math.log(2)), expected, rtol=1e-9)
    assert Density(density.flow).bits_per_pixel(u, lls) is None
    drawn = np.concatenate(list(density.samples(100, torch.Generator())))
    np.testing.assert_array_equal(drawn, np.clip(np.floor(drawn), 0, levels - 1))
    assert np.isfinite(density.log_prob(drawn)).all()


@pytest.mark.parametrize("levels", [256, 17])
def test_a_uniform_image_takes_eight_bits_a_pixel(levels: int) -> None:
    alpha = 1e-6
    z = torch.rand(200, 30, dtype=torch.float64)
    x = torch.logit(alpha + (1 - 2 * alpha) * z)
    # the density of x, by change of variables, when z is uniform
    slope = torch.sigmoid(x) * torch.sigmoid(-x) / (1 - 2 * alpha)
    density = Density(shaken("realnvp", 30).double(), (steps.Logit(alpha=alpha, levels=levels),))
    bits = density.bits_per_pixel(x, slope.log().sum(1).numpy())
    np.testing.assert_allclose(bits, math.log2(levels))


def test_patches_are_taken_with_their_mean_and_drawn_without() -> None:
    density = Density(shaken("maf", 8).double(), (steps.SubtractMean(levels=256),))
    assert density.dim == 9
    patches = np.random.RandomState(0).randint(0, 256, (20, 9)).astype(np.float64)
    u = torch.from_numpy((patches - patches.mean(1, keepdims=True))[:, :-1] / 256)
    lls = density.flow(u).detach().numpy() - 8 * math.log(256)
    np.testing.assert_allclose(density.log_prob(patches), lls, rtol=1e-9)
    np.testing.assert_allclose(density.log_prob(patches + 7), lls, rtol=1e-9)
    (drawn,) = density.samples(6, torch.Generator())
    assert drawn.shape == (6, 9)
    np.testing.assert_allclose(drawn.sum(1), 0, atol=1e-9)


def test_a_row_beyond_single_precision_is_taken_in_double() -> None:
    density = Density(shaken("maf", 2).float(), (STANDARDISE,))
    lls = density.log_prob(np.array([[1e30, 0.0], [5.0, -300.0]]))
    assert np.isfinite(lls).all()
    assert lls[0] < -1e50 < lls[1]


def test_a_draw_that_is_not_finite_is_refused_even_where_pixels_are_cut_off() -> None:
    density = Density(shaken("maf", 2).double(), (steps.Logit(alpha=0.01, levels=17),))
    with torch.no_grad():
        next(density.flow.parameters()).fill_(torch.inf)
    with pytest.raises(DivergedError, match="sample 1 of 3 is not finite"):
        list(density.samples(3, torch.Generator()))


@pytest.mark.parametrize(
    "step",
    [
        steps.Standardise(location=(0.0,), scale=(1.0,)),
        steps.Standardise(location=(0.0,) * 3, scale=(1.0,) * 3),
        steps.Standardise(location=(0.0,) * 2, scale=(1.0,)),
        steps.Dequantise(steps=(1.0,) * 3),
        steps.Dequantise(steps=(1.0,), origin=(0.0,) * 3),
    ],
)
def test_preprocessing_of_other_columns_is_refused_and_not_broadcast(step: steps.Step) -> None:
    with pytest.raises(DataError, match="2 columns"):
        Density(shaken("maf", 2).double(), (step,))
