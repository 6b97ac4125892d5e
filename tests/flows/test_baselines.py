"""What needs no network: mixtures and kernels, chosen on validation rows."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.neighbors import KernelDensity

from flowbench.flows import Flow, gmm, kde

pytestmark = pytest.mark.usefixtures("float64")


def two_heaps(n: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, 2, generator=generator)
    rows[: n // 2] = rows[: n // 2] * 0.3 + torch.tensor([6.0, -4.0])
    return rows[torch.randperm(n, generator=generator)]


def fitted(flow: Flow) -> Flow:
    flow.fit_closed_form(two_heaps(1000, 0), two_heaps(500, 1))
    return flow


def test_a_mixture_has_as_many_components_as_validation_rows_want() -> None:
    flow = fitted(gmm.build(2, gmm.Options(components=8)))
    used = flow.transform.log_weights.isfinite().sum().item()
    assert 2 <= used < 8
    x = two_heaps(200, 2)
    truth = sum(
        0.5 * multivariate_normal(mean, scale**2).pdf(x.numpy()) for mean, scale in (([0, 0], 1.0), ([6, -4], 0.3))
    )
    assert abs(flow(x).mean() - torch.from_numpy(truth).log().mean()) < 0.05


def test_kernels_are_scikit_learns() -> None:
    flow = fitted(kde.build(2, kde.Options(kernels=600)))
    own = flow.transform
    share = own.widths / two_heaps(1000, 0)[:600].std(0, correction=0)
    assert share[0] == share[1]
    assert min(kde.SHARES) < share[0] < max(kde.SHARES)
    x = two_heaps(50, 2)
    theirs = KernelDensity(bandwidth=1.0).fit((two_heaps(1000, 0)[:600] / own.widths).numpy())
    expected = torch.from_numpy(theirs.score_samples((x / own.widths).numpy())) - own.widths.log().sum()
    torch.testing.assert_close(flow(x), expected)


@pytest.mark.parametrize("build", [gmm, kde])
def test_draws_are_of_the_density(build: object) -> None:
    flow = fitted(build.build(2, build.Options()))  # type: ignore[attr-defined]
    x = flow.sample(20_000, torch.Generator().manual_seed(3))
    assert (x[:, 0] > 3).double().mean().item() == pytest.approx(0.5, abs=0.03)
    assert flow(x).mean().item() == pytest.approx(flow(two_heaps(20_000, 5)).mean().item(), abs=0.15)
    with pytest.raises(NotImplementedError, match="no map of rows to noise"):
        flow.to_noise(x)
