"""Conditional log-densities of columns: they add up to the density, and are those of the columns before alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flowbench import flows
from flowbench.data.preprocessing import Standardise
from flowbench.flows import Flow
from flowbench.flows.core.conditionals import has_one_order, log_conditionals
from flowbench.flows.core.density import Density

ONE_ORDER = {
    "made": {},
    "made-mog": {},
    "resmade-mog": {"whiten": True, "hidden": (16, 16)},
    "maf": {"transforms": 1, "batch_norm": True},
}


def built(name: str, dim: int = 3, given: tuple[int, ...] = (), **options: object) -> Flow:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = flows.load(name).Options.model_validate({"hidden": (16,), **options})
        flow = flows.build(name, dim, model, given).double()
        with torch.no_grad():
            for parameter in flow.parameters():  # what masks forbid stays zero
                parameter *= 1 + 0.3 * torch.randn_like(parameter)
    return flow.eval().requires_grad_(False)


@pytest.mark.parametrize("name", ONE_ORDER)
@pytest.mark.parametrize("given", [(), (2,)])
def test_terms_add_up_and_none_depends_on_a_column_after_it(name: str, given: tuple[int, ...]) -> None:
    flow = built(name, given=given, **ONE_ORDER[name])
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(2, (20, len(given)), generator=generator).double()
    x = torch.cat([codes, torch.randn(20, 3, generator=generator).double()], 1)
    assert has_one_order(flow)
    terms = log_conditionals(flow, x)
    torch.testing.assert_close(terms.sum(1), flow(x))
    moved = x.clone()
    moved[:, -1] += 1
    later = log_conditionals(flow, moved)
    torch.testing.assert_close(later[:, :-1], terms[:, :-1])
    assert not torch.allclose(later[:, -1], terms[:, -1])


@pytest.mark.parametrize("name", ONE_ORDER)
def test_each_term_is_a_density_of_its_column(name: str) -> None:
    flow = built(name, **ONE_ORDER[name])
    line = torch.linspace(-30, 30, 3001).double()
    for column in range(3):
        rows = torch.tensor([[0.3, -0.5, 0.9]]).double().repeat(len(line), 1)
        rows[:, column] = line
        assert float(log_conditionals(flow, rows)[:, column].exp().sum()) * 0.02 == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("maf", {"transforms": 2}),
        ("realnvp", {"transforms": 2}),
        ("made", {"orders": 2}),
        ("nsf-ar", {"transforms": 1}),
    ],
)
def test_flows_without_one_order_say_so(name: str, options: dict[str, object]) -> None:
    assert not has_one_order(built(name, **options))


def test_in_raw_units_they_add_up_to_the_log_density() -> None:
    density = Density(built("made-mog"), (Standardise(location=(1.0, -2.0, 0.0), scale=(3.0, 0.1, 1.0)),))
    rows = np.random.default_rng(0).normal(size=(9, 3)) * [3, 0.1, 1] + [1, -2, 0]
    np.testing.assert_allclose(density.log_conditionals(rows).sum(axis=1), density.log_prob(rows), atol=1e-9)
