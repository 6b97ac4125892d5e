"""Values in bins, and how far two distributions are apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flowbench.results.sketch import BINS
from flowbench.training.histograms import counted, distance, distances_from_normal, edges, step_of


@pytest.mark.parametrize(
    ("values", "step"),
    [
        (np.array([0.0, 1.0] * 9), 0.0),
        (np.arange(40.0), 0.0),
        (np.arange(300.0), 0.0),
        (np.array([3.0]), 0.0),
        (1.7e9 + np.random.default_rng(0).normal(size=99), 0.0),
        (np.array([0.1, 0.2, 0.3] * 9), 0.1),
    ],
)
def test_bins_hold_the_values(values: np.ndarray, step: float) -> None:
    found = edges(values, step_of(values, step))
    assert found is not None
    counts = counted(values, *found)
    assert len(counts) == BINS + 2
    assert sum(counts) == len(values)
    assert counts[0] + counts[-1] <= 0.02 * len(values)
    step = step_of(values, step)
    if step and len(np.unique(values)) <= BINS:  # each in the middle of a bin of its own
        places = (np.unique(values) - found[0]) / (found[1] - found[0]) * BINS % 1
        np.testing.assert_allclose(places, 0.5, atol=0.01)
    elif step:
        assert set(counts[1:30]) == {8}  # as many in each


def test_values_beyond_all_bounds_have_no_bins() -> None:
    assert edges(np.array([0.0, 1e60])) is None
    assert edges(np.array([])) is None
    assert edges(np.array([0.0, 1e308]), 1e-300) is None


def test_distances_are_those_of_scipy() -> None:
    from scipy.stats import ks_2samp, kstest

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=500).round(1), np.append(rng.normal(size=300).round(1), np.inf)
    assert distance(a, b) == pytest.approx(ks_2samp(a, b).statistic, abs=1e-5)
    u = torch.from_numpy(np.stack([a, a**3], 1))
    assert distances_from_normal(u) == pytest.approx([kstest(each, "norm").statistic for each in u.T.numpy()], abs=1e-5)
