"""Several orders of the columns: each member is exact, and so is their mean."""

from __future__ import annotations

import importlib
import math

import pytest
import torch

from flowbench import flows
from flowbench.config import TrainingOptions
from flowbench.data import fit_gaussian
from flowbench.errors import UsageError
from flowbench.flows.core.ensemble import Ensemble
from flowbench.training.checks import checks
from flowbench.training.loop import train
from flowbench.transforms import Chain, PatchSymmetry, Permutation

pytestmark = pytest.mark.usefixtures("float64")


def build(name: str = "made-mog", dim: int = 3, **options: object) -> flows.Flow:
    torch.manual_seed(0)
    module = importlib.import_module(f"flowbench.flows.{name}")
    sizes = {"hidden": (16, 16), **({} if name == "made" else {"components": 3})}
    return module.build(dim, module.Options(**sizes, **options))


@pytest.mark.parametrize("name", ["made", "made-mog", "resmade-mog"])
def test_the_density_is_the_mean_of_those_over_each_order(name: str) -> None:
    flow = build(name, orders=3)
    assert isinstance(flow, Ensemble)
    orders = [
        [leaf.order.tolist() for leaf, _ in part.transform.leaves() if isinstance(leaf, Permutation)]
        for part in flow.parts
    ]
    assert orders[0] == []
    assert orders[1] != orders[2]
    x = torch.randn(7, 3)
    members = torch.stack([part(x).exp() for part in flow.parts])
    torch.testing.assert_close(flow(x).exp(), members.mean(0))


def test_one_order_is_no_ensemble_and_a_random_one_stands_first() -> None:
    assert not isinstance(build(), Ensemble)
    (first, _), *_ = build(dim=9, order="random").transform.leaves()
    assert isinstance(first, Permutation)
    assert first.order.tolist() != list(range(9))


def test_its_gradient_is_that_of_the_mean() -> None:
    flow, x = build(orders=2), torch.randn(20, 3)
    expected = torch.autograd.grad(-flow(x).mean(), list(flow.parameters()))
    for _ in range(2):  # what an earlier step left is not added to
        loss = flow.backpropagate(x)
    assert loss.item() == pytest.approx(-flow(x).mean().item())
    for parameter, gradient in zip(flow.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_draws_are_of_the_mean() -> None:
    flow = build(orders=2)
    with torch.no_grad():
        for part, place in zip(flow.parts, (-8.0, 8.0), strict=True):
            made = list(part.transform.leaves())[-1][0].conditioner
            made.begin(torch.cat([torch.zeros(3), torch.full((3,), place), torch.zeros(3)]).repeat(3), 0.0)
    x, log_prob = flow.sample_and_log_prob(2000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(log_prob, flow(x))
    assert (x[:, 0] > 0).double().mean().item() == pytest.approx(0.5, abs=0.04)
    assert ((x > 0).all(1) | (x < 0).all(1)).all()
    assert flow.sample(1).shape == (1, 3)


def test_it_trains_each_part_from_where_the_rows_lie_and_is_checked() -> None:
    flow = build("resmade-mog", orders=2, whiten=True)
    x = 5 + torch.randn(600, 3) @ torch.tensor([[1.0, 0.9, 0.5], [0.0, 0.4, 0.2], [0.0, 0.0, 0.3]])
    train(flow, x, x[:100], TrainingOptions(max_epochs=8), seed=0)
    factor = fit_gaussian(lambda: [x.numpy()])[1]
    gaussian = -torch.from_numpy(factor).diagonal().log().sum() - 1.5 * (1 + math.log(2 * math.pi))
    assert flow(x).mean().item() > gaussian.item() - 0.3
    assert all(check.passed for check in checks(flow, x, flow(x).detach().numpy()).values())
    for part in flow.parts:
        *before, whitening, _ = part.transform
        u, _ = whitening(Chain(before)(x)[0])
        torch.testing.assert_close(u.t().cov(correction=0), torch.eye(3))


def test_a_patch_is_seen_in_one_of_eight_ways_in_training_and_in_all_in_evaluation() -> None:
    flow = build("resmade-mog", dim=8, symmetric=True)
    image = torch.randn(5, 3, 3)
    image -= image.mean((1, 2), keepdim=True)
    x = image.flatten(1)[:, :-1]
    (own,) = flow.parts
    views = [turned for k in range(4) for turned in (image.rot90(k, (1, 2)), image.rot90(k, (1, 2)).transpose(1, 2))]
    members = torch.stack([own(view.flatten(1)[:, :-1]).exp() for view in views])
    assert members.std(0).min() > 0
    seen = {tuple(flow.train()(x).exp().tolist()) for _ in range(99)}
    assert len(seen) == 8  # one of them at a time
    torch.testing.assert_close(torch.tensor(sorted(seen)), torch.tensor(sorted(map(tuple, members.tolist()))))
    torch.testing.assert_close(flow.eval()(x).exp(), members.mean(0))
    torch.testing.assert_close(flow(views[3].flatten(1)[:, :-1]), flow(x))
    drawn, log_prob = flow.sample_and_log_prob(64, torch.Generator().manual_seed(0))
    torch.testing.assert_close(log_prob, flow(drawn))


@pytest.mark.parametrize("orders", [1, 2])
def test_a_step_descends_in_the_view_that_was_chosen(orders: int) -> None:
    flow, x = build("resmade-mog", dim=8, symmetric=True, orders=orders).train(), torch.randn(20, 8)
    losses = set()
    for seed in range(9):
        torch.manual_seed(seed)
        expected = torch.autograd.grad(loss := -flow(x).mean(), list(flow.parameters()))
        torch.manual_seed(seed)
        assert flow.backpropagate(x).item() == pytest.approx(loss.item())
        for parameter, gradient in zip(flow.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)
        losses.add(loss.item())
    assert len(losses) > 1


def test_a_symmetry_is_undone_and_keeps_volumes() -> None:
    x = torch.randn(4, 8)
    for view in PatchSymmetry.all_of(8):
        u, log_det = view(x)
        torch.testing.assert_close(view.inverse(u)[0], x)
        jacobian = torch.autograd.functional.jacobian(lambda row: view(row[None])[0][0], x[0])  # noqa: B023  # at once
        torch.testing.assert_close(jacobian.det().abs().log(), log_det[0])


def test_a_row_that_is_no_patch_is_refused() -> None:
    with pytest.raises(UsageError, match="10 columns and one more are no square patch"):
        build("resmade-mog", dim=10, symmetric=True)


def test_what_is_given_reaches_every_order_and_view() -> None:
    torch.manual_seed(0)
    flow = flows.build(
        "resmade-mog", 8, flows.load("resmade-mog").Options(hidden=(16, 16), orders=2, symmetric=True), (3,)
    ).eval()
    rows = torch.cat([torch.tensor([[0.0], [1.0], [2.0]]), torch.randn(1, 8).expand(3, 8)], 1)
    assert flow(rows).std() > 0
    x, log_prob = flow.sample_and_log_prob(30, given=rows[:1, :1].expand(30, 1))
    assert x.shape == (30, 9)
    torch.testing.assert_close(log_prob, flow(x))
    assert len(flow.state_dict()) == len({tensor.data_ptr() for tensor in flow.state_dict().values() if tensor.numel()})
