"""Both divergences of a trained flow are one, each by a direction of its own; what breaks a direction is caught."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from flow_cases import shaken
from scipy import stats
from torch import Tensor

from flowbench import data
from flowbench.engines import TORCH
from flowbench.errors import DataError
from flowbench.flows import Flow
from flowbench.training import duality as dual
from flowbench.training.duality import duality, duality_seconds, has_duality
from flowbench.training.objective import MaximumLikelihood
from flowbench.transforms import Affine, Pair, Transform

DIM = 4
TRUTH = stats.multivariate_normal(np.arange(DIM), np.diag([1.0, 2, 3, 4]) + 0.5)


def rows(n: int = 30) -> Tensor:
    return torch.tensor(TRUTH.rvs(n, random_state=0), dtype=torch.float32)


class Doubling(Transform):
    """u = 2x, with whatever its two directions and their log-determinants are to be."""

    def __init__(self, log_det: float, back: float, log_det_back: float) -> None:
        super().__init__()
        self.log_det, self.back, self.log_det_back = log_det, back, log_det_back

    def forward(self, x: Tensor) -> Pair:
        return 2 * x, x.new_full((len(x),), self.log_det)

    def inverse(self, u: Tensor) -> Pair:
        return self.back * u, u.new_full((len(u),), self.log_det_back)


@pytest.mark.parametrize("name", ["maf", "iaf", "realnvp", "nsf-c"])
def test_both_sides_are_one_number_of_each_row(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dual, "AT_ONCE", 7)  # in parts, the last of them shorter
    flow, x = shaken(name, DIM).float(), rows()
    found = duality(flow, x, TRUTH.logpdf)
    expected = TRUTH.logpdf(x.double().numpy()) - flow.double()(x.double()).detach().numpy()
    np.testing.assert_allclose(found.of_data, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.of_noise, expected, rtol=0, atol=1e-9)
    assert (found.of_noise != found.of_data).any()  # else one was taken for the other
    assert found.check.passed


@pytest.mark.parametrize(
    ("log_det", "back", "log_det_back", "passed"),
    [
        (math.log(2), 0.5, -math.log(2), True),
        (-math.log(2), 0.5, -math.log(2), False),
        (math.log(2), 0.5, math.log(2), False),
        (math.log(2), 0.4, -math.log(2), False),
        (math.nan, 0.5, -math.log(2), False),
    ],
    ids=["sound", "log_det's sign", "log_det's sign back", "no inverse", "no number"],
)
def test_what_is_wrong_in_one_direction_is_caught(
    log_det: float, back: float, log_det_back: float, passed: bool
) -> None:
    flow = Flow(1, Doubling(log_det, back, log_det_back))
    assert duality(flow, rows()[:, :1], _normal).check.passed is passed


def _normal(x: np.ndarray) -> np.ndarray:
    return np.asarray(stats.norm.logpdf(x).sum(1))


def test_a_wrong_sign_in_a_mafs_substitution_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = shaken("maf", DIM).float()
    flow.engine = TORCH
    right = Affine.inverse
    assert duality(flow, rows(), TRUTH.logpdf).check.passed

    def wrong(self: Affine, u: Tensor, theta: Tensor) -> Pair:
        x, log_derivative = right(self, u, theta)
        return x, -log_derivative

    monkeypatch.setattr(Affine, "inverse", wrong)
    found = duality(flow, rows(), TRUTH.logpdf)
    assert not found.check.passed
    assert found.check.value is not None
    assert found.check.value > 1e-2


def test_only_a_map_whose_noise_tells_all_is_asked() -> None:
    assert all(has_duality(shaken(name, 2)) for name in ("maf", "gaussian"))
    assert not any(has_duality(shaken(name, 2)) for name in ("maf-mog", "gmm"))
    assert not has_duality(shaken("made-mog", 2, orders=2))


def test_the_first_rows_are_looked_at_and_their_seconds_foreseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dual, "ROWS", 20)
    monkeypatch.setattr(dual, "AT_ONCE", 5)
    flow, x = shaken("maf", DIM).float(), rows()
    assert duality(flow, x, TRUTH.logpdf).of_data.shape == (20,)
    assert duality_seconds(flow, x, TRUTH.logpdf, lambda work: 1.0) == 4
    assert duality_seconds(flow, x[:3], TRUTH.logpdf, lambda work: 1.0) == 1
    with_truth, without = (
        MaximumLikelihood(flow, truth).closing_seconds(x, lambda work: 1.0) for truth in (TRUTH.logpdf, None)
    )
    assert with_truth == pytest.approx(without + 4)


def test_the_truth_is_its_datasets() -> None:
    banana = data.load("truth-banana")
    truth = data.true_log_density(banana)
    assert truth is not None
    np.testing.assert_allclose(truth(np.float64(banana.test[:9])), banana.test_true_ll[:9])  # type: ignore[index]
    assert data.true_log_density(replace(banana, test_true_ll=None)) is None
    with pytest.raises(DataError, match="not of one density"):
        data.true_log_density(replace(banana, test_true_ll=banana.test_true_ll + 0.1))  # type: ignore[operator]
    assert data.true_log_density(replace(banana, card=None)) is None
