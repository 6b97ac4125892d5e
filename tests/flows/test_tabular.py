"""Densities of classes and numbers: masses that sum to one, absent numbers integrated out, draws as they are told."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from flowbench import flows
from flowbench.data.discrete import Atoms, Category, Discrete
from flowbench.data.preprocessing import Bounded, Standardise
from flowbench.errors import UsageError
from flowbench.flows import Flow
from flowbench.flows.core.absent import fills
from flowbench.flows.core.categories import Categories
from flowbench.flows.core.density import Density
from flowbench.training.calibration import begin, calibrate
from flowbench.training.checks import checks

CITY = Category(name="city", labels=("bonn", "oslo", "rome"))
DISCRETE = Discrete(categories=(CITY,), atoms=(Atoms(column=1, values=(0.0, None)),))


def tabular(name: str = "maf", dim: int = 2, given: tuple[int, ...] = (), discrete: Discrete = DISCRETE) -> Flow:
    """One whose weights are random, and not those that it begins with."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        known = flows.load(name).Options
        sizes = {"hidden": (16,)} | ({"transforms": 2} if "transforms" in known.model_fields else {})
        options = known.model_validate(sizes)
        flow = flows.build(name, dim, options, given, discrete).double()
        with torch.no_grad():
            for parameter in flow.parameters():  # what masks forbid stays zero
                parameter *= 1 + 0.3 * torch.randn_like(parameter)
    return flow.eval()


def rows(flow: Flow, n: int = 40, classes: tuple[int, ...] = (3, 3), given: tuple[int, ...] = ()) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    codes = [torch.randint(count, (n, 1), generator=generator).double() for count in (*given, *classes)]
    return torch.cat([*codes, torch.randn(n, flow.dim, generator=generator).double()], 1)


@pytest.mark.parametrize("classes", [(2,), (3, 4), (2, 1, 5), (2,) * 6])
@pytest.mark.parametrize("given", [(), (3, 0)])
def test_a_mass_sums_to_one_and_each_column_sees_those_before_it(
    classes: tuple[int, ...], given: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    mass = Categories(classes, given).double().requires_grad_(False)
    for parameter in mass.parameters():
        parameter += torch.randn_like(parameter)
    codes = torch.tensor(list(itertools.product(*map(range, classes)))).double()
    context = torch.tensor([[2.0, -0.7]]).double() if given else None

    def seen(n: int) -> torch.Tensor | None:
        return None if context is None else context.expand(n, 2)

    masses = mass.log_prob(codes, seen(len(codes))).exp()
    assert float(masses.sum()) == pytest.approx(1, abs=1e-12)
    if context is not None:
        other = mass.log_prob(codes, (context + torch.tensor([-1.0, 0.5])).expand(len(codes), 2))
        assert not torch.allclose(other.exp(), masses)
    drawn = mass.draw(torch.rand(20_000, len(classes)).double(), seen(20_000))
    found = torch.stack([(drawn == code).all(1).double().mean() for code in codes])
    assert (found - masses).abs().max() < 0.015
    for place, logits in enumerate(mass._logits(codes, seen(len(codes))).split(mass.classes, 1)):
        others = codes.clone()
        others[:, place:] = 0  # neither itself nor what comes after it is seen
        torch.testing.assert_close(mass._logits(others, seen(len(codes))).split(mass.classes, 1)[place], logits)


def test_it_begins_with_the_frequencies_and_a_class_that_was_never_seen_is_not_impossible() -> None:
    mass = Categories((3,)).double().requires_grad_(False)
    mass.begin(torch.tensor([[0.0]] * 6 + [[1.0]] * 2))
    found = mass.log_prob(torch.tensor([[0.0], [1.0], [2.0]]).double()).exp()
    torch.testing.assert_close(found, torch.tensor([7, 3, 1]).double() / 11)


@pytest.mark.parametrize("name", ["maf", "iaf", "realnvp", "made-mog", "nsf-ar"])
@pytest.mark.parametrize("given", [(), (2,)])
def test_its_gradient_is_autograds(name: str, given: tuple[int, ...]) -> None:
    flow = tabular(name, given=given)
    x = rows(flow, given=given)
    loss = flow.backpropagate(x)
    found = [parameter.grad.clone() for parameter in flow.parameters() if parameter.grad is not None]
    flow.zero_grad(set_to_none=True)
    expected = -flow(x).mean()
    expected.backward()
    assert float(loss) == pytest.approx(float(expected.detach()), abs=1e-9)
    ours = [parameter.grad for parameter in flow.parameters() if parameter.grad is not None]
    assert len(found) == len(ours) > 2
    for one, other in zip(found, ours, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("name", ["maf", "realnvp", "made-mog"])
def test_draws_are_of_its_own_density(name: str) -> None:
    flow = tabular(name).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    drawn, log_prob = flow.sample_and_log_prob(4000, generator)
    torch.testing.assert_close(log_prob, flow(drawn))
    assert set(drawn[:, 0].tolist()) == {0.0, 1.0, 2.0}
    codes = torch.tensor(list(itertools.product(range(3), range(3)))).double()
    found = torch.stack([(drawn[:, :2] == code).all(1).double().mean() for code in codes])
    assert (found - flow.categories.log_prob(codes).exp()).abs().max() < 0.03  # type: ignore[operator,union-attr]


@pytest.mark.parametrize("name", ["maf", "realnvp"])
def test_sums_and_integrals_over_a_mixed_table_are_one(name: str) -> None:
    """A class, a share between 0 and 1, and a price of which 0 and missing are apart."""
    steps = (
        Bounded(lower=(0.0, None), upper=(1.0, None), margin=(1e-9, 0.0)),
        Standardise(location=(0.3, 2.0), scale=(0.9, 0.7)),
    )
    density = Density(tabular(name), steps, (), DISCRETE)
    share, price = (np.arange(160) + 0.5) / 160, np.linspace(-4.5, 8.5, 140)
    grid = np.stack([side.ravel() for side in np.meshgrid(share, price)], 1)
    total = 0.0
    for code in range(3):
        both = np.insert(grid, 0, code, axis=1)
        total += np.exp(density.log_prob(both)).sum() * (price[1] - price[0]) / 160
        for apart in (0.0, np.nan):
            line = np.stack([np.full(160, code), share, np.full(160, apart)], 1)
            total += np.exp(density.log_prob(line)).mean()
    assert total == pytest.approx(1, abs=1e-3)


def test_where_two_numbers_are_absent_the_rest_is_integrated_over_both() -> None:
    both = Discrete(atoms=(Atoms(column=0, values=(None,)), Atoms(column=2, values=(None,))))
    density = Density(tabular(dim=3, discrete=both), discrete=both)
    x = np.linspace(-8, 8, 100)
    line = np.stack([np.full(100, np.nan), x, np.full(100, np.nan)], 1)
    mass = density.flow.categories.log_prob(torch.tensor([[1.0, 1.0]]).double()).exp()  # type: ignore[operator,union-attr]
    assert np.exp(density.log_prob(line)).sum() * (x[1] - x[0]) == pytest.approx(float(mass.detach()), rel=2e-3)


def test_three_absent_numbers_are_integrated_over_by_a_sobol_sequence() -> None:
    points, log_weights = fills(3)
    weights = log_weights.exp()
    assert float(weights.sum()) == pytest.approx(1, abs=5e-3)
    torch.testing.assert_close(weights @ points.square(), torch.ones(3).double(), atol=0.02, rtol=0)
    shifted = torch.distributions.Normal(0.5, 1.1).log_prob(points) - torch.distributions.Normal(0.0, 1.0).log_prob(
        points
    )
    assert float((log_weights + shifted.sum(1)).exp().sum()) == pytest.approx(1, abs=0.02)


def test_draws_have_atoms_and_missing_values_and_lie_between_bounds() -> None:
    steps = (
        Bounded(lower=(0.0, -1.0), upper=(1.0, None), margin=(1e-9, 1e-9)),
        Standardise(location=(0.0, 0.0), scale=(30.0, 30.0)),  # far out into the tails of both
    )
    density = Density(tabular(), steps, (), DISCRETE)
    drawn = np.concatenate(list(density.samples(20_000, torch.Generator().manual_seed(0))))
    assert drawn.shape == (20_000, 3)
    price = drawn[:, 2]
    assert (price == 0).any()
    assert np.isnan(price).any()
    assert np.nanmin(price) >= -1
    assert drawn[:, 1].min() >= 0
    assert drawn[:, 1].max() < 1
    assert np.isfinite(density.log_prob(np.array([[0, 0.0, -1.0], [1, 1.0, np.nan]]))).all()  # on the bounds
    assert np.isnan(density.log_prob(np.array([[0, 1.1, 2.0]]))).all()


@pytest.mark.parametrize("name", ["made", "maf"])
def test_what_checks_and_calibrates_a_flow_reaches_the_one_inside(name: str) -> None:
    """Wrapped twice where values have a mass, and a mean over several orders."""
    options = flows.load(name).Options.model_validate({"orders": 3} if name == "made" else {"batch_norm": True})
    flow = flows.build(name, 2, options, (), DISCRETE)
    assert len(flow.parts) == (3 if name == "made" else 1)
    x = rows(flow, 500).float()
    begin(flow, x)
    calibrate(flow, x)
    held = checks(flow.eval(), x, np.zeros(500))
    assert set(held) == {"not_finite", "roundtrip", "log_det", "order"}
    assert all(check.passed for check in held.values())


def test_a_flow_that_cannot_be_conditioned_says_what_can() -> None:
    with pytest.raises(UsageError, match="models numbers alone") as caught:
        flows.build("gmm", 2, flows.load("gmm").Options(), (), DISCRETE)
    assert "realnvp" in str(caught.value.hint)
