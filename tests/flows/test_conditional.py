"""Conditional densities of every flow that can be one: their mass, their gradients and their checks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from flowbench import flows
from flowbench.data.given import GivenColumn
from flowbench.data.preprocessing import Standardise
from flowbench.errors import DataError, UsageError
from flowbench.flows import Flow
from flowbench.flows.core.density import ROWS, Density, class_averaged
from flowbench.flows.core.given import Given
from flowbench.flows.core.registry import conditional
from flowbench.training.calibration import calibrate
from flowbench.training.checks import checks
from flowbench.training.clock import time_flow
from flowbench.training.contract import shake
from flowbench.transforms import MADE

pytestmark = pytest.mark.usefixtures("float64")

CONDITIONAL = [name for name in flows.names() if conditional(flows.load(name))]
ENSEMBLE = "made-mog, two orders"
CLASSES = (3, 0)


def given_rows(n: int) -> torch.Tensor:
    return torch.cat([torch.randint(3, (n, 1)), torch.randn(n, 3)], 1)


def shaken(name: str, given: tuple[int, ...] = CLASSES) -> Flow:
    """Over two columns, given a class and a number."""
    torch.manual_seed(0)
    name, ensemble, _ = name.partition(", ")
    options, wanted = flows.load(name).Options, {"hidden": (11, 13), "transforms": 3, "orders": 2 if ensemble else 1}
    sizes = {key: value for key, value in wanted.items() if key in options.model_fields}
    flow = flows.build(name, 2, options(**sizes), given).double()
    rows = given_rows(300)
    shake(flow, rows if given else rows[:, 2:])
    return flow.eval()


def test_all_flows_with_a_conditioner_can_be_conditioned() -> None:
    assert set(flows.names()) - set(CONDITIONAL) == {"gaussian", "gmm", "kde"}
    options = flows.load("gaussian").Options()
    with pytest.raises(UsageError, match="cannot be conditioned") as caught:
        flows.build("gaussian", 2, options, (0,))
    assert "maf" in str(caught.value.hint)


@pytest.mark.parametrize("name", [*CONDITIONAL, ENSEMBLE])
def test_a_conditional_density_integrates_to_one_whatever_is_given(name: str) -> None:
    flow = shaken(name)
    axis = torch.linspace(-30, 30, 401)
    grid = torch.cartesian_prod(axis, axis)
    grid += torch.rand_like(grid) * (axis[1] - axis[0])  # anywhere in a cell: a density may jump
    masses = []
    for given in ((0.0, -0.5), (2.0, 1.0)):
        rows = torch.cat([torch.tensor([given]).expand(len(grid), -1), grid], 1)
        lls = flow(rows).detach()
        masses.append(float(lls.exp().sum()) * float(axis[1] - axis[0]) ** 2)
    assert masses == pytest.approx([1, 1], abs=1e-2)
    rows = given_rows(20)
    for column in (0, 1):
        other = rows.clone()
        other[:, column] = (other[:, column] + 1) % 3
        assert (flow(rows) - flow(other)).abs().max() > 1e-4  # it is seen


@pytest.mark.parametrize("name", [*CONDITIONAL, ENSEMBLE])
def test_closing_checks_hold_of_conditional_flows(name: str) -> None:
    flow, rows = shaken(name), given_rows(60)
    found = checks(flow, rows, flow(rows).detach().numpy())
    assert {key for key, check in found.items() if not check.passed} == set()
    assert "roundtrip" in found


def test_a_conditioner_that_sees_a_later_column_fails_its_check() -> None:
    flow, rows = shaken("maf"), given_rows(20)
    made = next(module for module in flow.modules() if isinstance(module, MADE))
    with torch.no_grad():
        made.packing.views(made.flat)[0].strips[0] += 1  # masked weights, too
    assert not checks(flow, rows, np.zeros(20))["order"].passed


def test_statistics_are_those_of_the_rows_given_their_own_context() -> None:
    flow, rows = shaken("maf"), given_rows(500)
    calibrate(flow, rows)
    found = flow.to_noise(rows)[0].detach()
    torch.testing.assert_close(found, flow.train().to_noise(rows)[0].detach())  # by the batch's own


@pytest.mark.parametrize("name", ["maf", "made-mog", ENSEMBLE])
def test_draws_and_times_are_of_what_is_given(name: str) -> None:
    flow, rows = shaken(name), given_rows(50)
    drawn, log_prob = flow.sample_and_log_prob(50, given=rows[:, :2])
    assert torch.equal(drawn[:, :2], rows[:, :2])
    torch.testing.assert_close(flow(drawn), log_prob, rtol=0, atol=1e-7)
    flow = flow.float()
    assert [timing.batch for timing in time_flow(flow, given_rows(7).float(), batches=(10,))] == [10]


def test_the_average_over_classes_is_a_density_of_rows_alone() -> None:
    flow, rows = shaken("made-mog"), given_rows(30)
    each = torch.stack([flow(torch.cat([torch.full((30, 1), y), rows[:, 1:]], 1)) for y in range(3)])
    expected = (each.exp().sum(0) / 3).log().detach().numpy()
    np.testing.assert_allclose(class_averaged(flow, rows), expected, rtol=1e-9)
    assert [Given(classes).only_classes for classes in ((0, 3), (0, 0), (3, 3))] == [1, None, None]
    assert class_averaged(shaken("maf", ()), rows[:, 2:]) is None


def test_given_numbers_are_in_their_own_units() -> None:
    columns = (GivenColumn(name="c", labels=("x", "y", "z")), GivenColumn(name="n", location=50.0, scale=4.0))
    flow = shaken("realnvp")
    density = Density(flow, (Standardise(location=(1.0, 2.0), scale=(0.5, 8.0)),), columns)
    rows = given_rows(40)
    own = rows.numpy() * [1, 4.0, 0.5, 8.0] + [0, 50.0, 1.0, 2.0]
    expected = flow(rows).detach().numpy() - math.log(0.5 * 8)
    np.testing.assert_allclose(density.log_prob(own), expected, rtol=1e-9)
    (drawn,) = density.samples(40, torch.Generator(), own[:, :2])
    np.testing.assert_array_equal(drawn[:, :2], own[:, :2])
    inside = flow.drawn(flow.noise(ROWS, torch.Generator())[:, :40], rows[:, :2])[0].detach().numpy()
    np.testing.assert_allclose(drawn[:, 2:], inside[:, 2:] * [0.5, 8.0] + [1.0, 2.0], rtol=1e-9)
    with pytest.raises(DataError, match="what it is given"):
        Density(flow, (), columns[:1])
