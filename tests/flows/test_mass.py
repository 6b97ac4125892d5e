"""Probability masses of values in steps: exact sums, the density as their limit, draws on the steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special

from flowbench import flows
from flowbench.data.discrete import Discrete
from flowbench.errors import DataError, UsageError
from flowbench.flows import Flow
from flowbench.flows.core.density import Density
from flowbench.transforms.univariate import log_normal_mass

STEPS, ORIGINS = (0.5, 0.0), (0.25, 0.0)
ONE_LAYER = {"made": {}, "made-mog": {}, "maf": {"transforms": 1, "batch_norm": False}}


def massed(name: str, steps: tuple[float, ...] = STEPS, origins: tuple[float, ...] = ORIGINS) -> Flow:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        options = flows.load(name).Options.model_validate({"hidden": (16,), **ONE_LAYER.get(name, {})})
        flow = flows.build(name, len(steps), options, (), Discrete(steps=steps, origins=origins)).double()
        with torch.no_grad():
            for parameter in flow.parameters():  # what masks forbid stays zero
                parameter *= 1 + 0.5 * torch.randn_like(parameter)
    return flow.eval()


@pytest.mark.parametrize("name", ONE_LAYER)
def test_masses_of_steps_and_densities_of_the_others_sum_to_one(name: str) -> None:
    flow = massed(name)
    steps = ORIGINS[0] + STEPS[0] * torch.arange(-60, 60)
    x = torch.linspace(-30, 30, 1201)
    grid = torch.cartesian_prod(steps, x).double()
    with torch.no_grad():
        assert float(flow(grid).exp().sum()) * 0.05 == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", ONE_LAYER)
def test_the_gradient_and_draws(name: str) -> None:
    flow = massed(name)
    with torch.no_grad():
        drawn, log_prob = flow.sample_and_log_prob(6000, torch.Generator().manual_seed(0))
        torch.testing.assert_close(log_prob, flow(drawn))
    places = (drawn[:, 0] - ORIGINS[0]) / STEPS[0]
    torch.testing.assert_close(places, places.round())
    assert not torch.allclose(drawn[:, 1], drawn[:, 1].round())
    # the first column's mass, by its own: columns after it integrate to one
    one = massed(name, steps=STEPS[:1], origins=ORIGINS[:1]).requires_grad_(False)
    own, _ = one.sample_and_log_prob(6000, torch.Generator().manual_seed(0))
    for value in own.unique().tolist()[::3]:
        share = float((own == value).double().mean())
        assert share == pytest.approx(float(one(torch.tensor([[value]]).double()).exp()), abs=0.025)
    loss = flow.backpropagate(drawn[:50])
    found = [parameter.grad.clone() for parameter in flow.parameters() if parameter.grad is not None]
    flow.zero_grad(set_to_none=True)
    expected = -flow(drawn[:50]).mean()
    expected.backward()
    assert float(loss) == pytest.approx(float(expected.detach()))
    for gradient, parameter in zip(found, flow.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


def test_a_fine_steps_mass_is_the_density_times_its_width() -> None:
    flow = massed("made-mog", steps=(1e-4, 0.0), origins=(0.0, 0.0))
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(2)).double()
    torch.testing.assert_close(flow(x), flow.flow(x) + np.log(1e-4), atol=1e-5, rtol=1e-5)  # type: ignore[operator]


def test_masses_of_a_normal_are_right_in_both_tails_and_have_gradients() -> None:
    low = np.array([-30.0, -9.0, -3.0, -0.5, 0.0, 2.0, 8.0, 29.0])
    for width in (1e-6, 1e-3, 0.02, 1.0, 5.0):
        edge = torch.tensor(low, requires_grad=True)
        found = log_normal_mass(edge, edge + width)
        near, far = np.minimum(np.abs(low), np.abs(low + width)), np.maximum(np.abs(low), np.abs(low + width))
        with np.errstate(divide="ignore"):
            tails = special.log_ndtr(-near) + np.log1p(-np.exp(special.log_ndtr(-far) - special.log_ndtr(-near)))
            across = np.log(special.ndtr(low + width) - special.ndtr(low))
        expected = np.where((low < 0) & (low + width > 0), across, tails)
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5, atol=2e-5)
        found.sum().backward()
        assert edge.grad is not None
        assert edge.grad.isfinite().all()


def test_other_flows_are_refused() -> None:
    with pytest.raises(UsageError, match="one masked autoregressive transform"):
        flows.build("maf", 2, flows.load("maf").Options(), (), Discrete(steps=STEPS, origins=ORIGINS))
    with pytest.raises(UsageError, match="one masked autoregressive transform"):
        flows.build("realnvp", 2, flows.load("realnvp").Options(), (), Discrete(steps=STEPS, origins=ORIGINS))


@pytest.mark.parametrize("discrete", [Discrete(steps=(0.5,), origins=(0.0,)), Discrete(steps=STEPS, origins=(0.0,))])
def test_steps_of_columns_that_are_not_there_are_refused(discrete: Discrete) -> None:
    with pytest.raises(DataError, match="atoms or steps of columns that are not there"):
        Density(massed("made"), discrete=discrete)
