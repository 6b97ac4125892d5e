"""Whole splits, bits per pixel, and checks that catch flows which are not what they claim to be."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from flow_cases import shaken
from torch import Tensor

from flowbench import flows
from flowbench.flows import Flow
from flowbench.flows.core.density import ROWS, log_likelihoods
from flowbench.training import checks as closing
from flowbench.training.checks import checks
from flowbench.transforms import MADE, Pair, Transform


def outcome(flow: Flow, x: Tensor) -> dict[str, bool]:
    return {name: check.passed for name, check in checks(flow, x, log_likelihoods(flow, x)).items()}


class Scaling(Transform):
    """u = 2x on one column, with whatever log-det and inverse a test wants."""

    def __init__(self, log_det: float, back: float) -> None:
        super().__init__()
        self.log_det, self.back = log_det, back

    def forward(self, x: Tensor) -> Pair:
        return 2 * x, x.new_full((len(x),), self.log_det) + 0 * x.sum(1)

    def inverse(self, u: Tensor) -> Pair:
        return self.back * u, u.new_full((len(u),), -self.log_det)


def test_every_row_counts_once_and_in_order() -> None:
    flow = shaken("maf", 2)
    x = torch.randn(2 * ROWS + 3, 2)
    found = log_likelihoods(flow, x)
    assert found.dtype == np.float64
    assert found.shape == (len(x),)
    alone = [log_likelihoods(flow, x[i : i + 1])[0] for i in (0, ROWS, 2 * ROWS + 2)]
    np.testing.assert_allclose(found[[0, ROWS, 2 * ROWS + 2]], alone, rtol=1e-5)


@pytest.mark.parametrize("name", flows.names())
def test_a_sound_flow_passes_all_checks(name: str) -> None:
    flow = shaken(name, 4).float()
    assert all(outcome(flow, torch.randn(50, 4)).values())


def test_a_jacobian_is_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = shaken("iaf", 7)
    x = torch.randn(3, 7)
    columns = torch.arange(7)
    (whole,) = [rows for _, rows in closing._jacobian(lambda x: flow.transform(x)[0], x, columns)]
    expected = torch.stack([torch.autograd.functional.jacobian(lambda r: flow.transform(r[None])[0][0], r) for r in x])
    torch.testing.assert_close(whole, expected, rtol=0, atol=1e-5)
    monkeypatch.setattr(closing, "JACOBIAN_VALUES", 50)
    parts = list(closing._jacobian(lambda x: flow.transform(x)[0], x, columns))
    assert [places.tolist() for places, _ in parts] == [[0, 1], [2, 3], [4, 5], [6]]
    torch.testing.assert_close(torch.cat([rows for _, rows in parts], 1), whole, rtol=0, atol=1e-5)


def test_the_determinant_of_a_steep_triangle_is_that_of_its_diagonal() -> None:
    rng = np.random.default_rng(0)
    steep = np.tril(30 * rng.normal(size=(2, 300, 300)), -1) + np.eye(300) * rng.uniform(0.5, 2, (2, 300, 1))
    expected = np.log(np.diagonal(steep, axis1=1, axis2=2)).sum(1)
    np.testing.assert_allclose(closing.log_abs_det(steep), expected, rtol=1e-12)
    assert np.abs(np.linalg.slogdet(steep).logabsdet - expected).max() > 1  # as it stands it is lost
    whole = rng.normal(size=(2, 20, 20))
    np.testing.assert_allclose(closing.log_abs_det(whole), np.linalg.slogdet(whole).logabsdet)


def test_an_inverse_that_is_none_is_caught() -> None:
    found = outcome(Flow(1, Scaling(math.log(2), back=0.4)), torch.randn(50, 1))
    assert found == {"roundtrip": False, "log_det": True, "not_finite": True}


@pytest.mark.parametrize("wrong", [-math.log(2), 0.0, 50 * math.log(2)])  # a sign, forgotten, summed over the batch
def test_a_wrong_log_det_is_caught(wrong: float) -> None:
    found = outcome(Flow(1, Scaling(wrong, back=0.5)), torch.randn(50, 1))
    assert found == {"roundtrip": True, "log_det": False, "not_finite": True}


def test_a_wrong_mask_is_caught() -> None:
    flow = shaken("maf", 4).float()
    made = next(module for module in flow.modules() if isinstance(module, MADE))
    with torch.no_grad():
        made.packing.views(made.flat)[0].strips[0] += 1
    assert not outcome(flow, torch.randn(50, 4))["order"]


def test_a_row_without_a_density_is_caught() -> None:
    x = torch.randn(50, 4)
    lls = np.zeros(50)
    lls[7] = -np.inf
    assert not checks(shaken("maf", 4).float(), x, lls)["not_finite"].passed
