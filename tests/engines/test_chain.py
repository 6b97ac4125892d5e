"""Chains whole in one call: against the equations, in every cut of rows into tiles and threads, and as flows change."""

from __future__ import annotations

import copy
import itertools
import os
import threading

import pytest
import torch
from flow_cases import shaken
from torch import Tensor

from flowbench.config import TrainingOptions
from flowbench.engines import TORCH
from flowbench.engines.interface import Joined
from flowbench.flows import Flow
from flowbench.training.step import Descent
from flowbench.transforms import BatchNorm, Chain, Permutation, packing
from flowbench.transforms.plan import MaskedPlan

numba_engine = pytest.importorskip("flowbench.engines.numba.engine", reason="needs numba")
program = pytest.importorskip("flowbench.engines.numba.chain.program")
adam = pytest.importorskip("flowbench.engines.numba.adam")

ENGINE = numba_engine.NumbaEngine()

FLOWS = pytest.mark.parametrize(
    ("name", "dim", "settings"),
    [
        ("maf", 1, {}),
        ("maf", 5, {"hidden": (7, 8, 9)}),
        ("maf", 19, {"hidden": (50, 61), "activation": "tanh"}),
        ("maf", 60, {"hidden": (130,), "batch_norm": False}),  # more than one block of columns
        ("iaf", 29, {"hidden": (70, 31)}),
        ("iaf", 6, {"hidden": (9, 8), "activation": "tanh"}),
        ("realnvp", 7, {"hidden": (13, 12)}),
        ("realnvp", 2, {"hidden": (5,)}),
    ],
)

CUTS = pytest.mark.parametrize(("threads", "tile"), [(1, 1 << 20), (1, 8), (2, 16), (3, 8)])


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch, threads: int, tile: int) -> None:
    """Rows cut into tiles of so many on so many threads, however little there is to do."""
    monkeypatch.setattr(program, "CHAIN_TILE", tile)
    monkeypatch.setattr(program, "CHAIN_WORK", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)


def everything(flow: Flow, x: Tensor) -> list[Tensor]:
    """Densities and both directions, with the gradients of all of it, and those of a step of training."""
    found = []
    for move in (lambda rows: (flow(rows),), flow.to_noise, flow.to_data):
        own = x.clone().requires_grad_()
        outs = move(own)
        loss = sum((out * torch.linspace(1, 2, out.numel()).to(out).view_as(out)).sum() for out in outs)
        wanted = [own, *flow.parameters()]
        found += [*outs, *torch.autograd.grad(loss, wanted, materialize_grads=True, allow_unused=True)]
        with torch.no_grad():
            found += move(x)
    found.append(flow.backpropagate(x))
    return [part.detach() for part in (*found, *(p.grad for p in flow.parameters() if p.grad is not None))]


@FLOWS
@CUTS
@pytest.mark.parametrize("rows", [0, 1, 2, 7, 45])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.usefixtures("cut", "float64")
def test_a_chain_is_its_transforms_one_after_the_other(
    name: str, dim: int, settings: dict[str, object], rows: int, training: bool
) -> None:
    if training and rows < 2:
        pytest.skip("one row has no variance")
    torch.manual_seed(dim + rows)
    flow = shaken(name, dim, **settings).train(training)
    other = copy.deepcopy(flow)
    flow.engine, other.engine = ENGINE, TORCH
    x = torch.randn(rows, dim)
    for found, expected in zip(everything(flow, x), everything(other, x), strict=True):
        limit = 1e-9 * (1 + (expected.abs().max().item() if expected.numel() else 0))
        torch.testing.assert_close(found, expected, rtol=0, atol=limit)


@pytest.mark.parametrize(("threads", "tile"), [(2, 24)])
@pytest.mark.parametrize("name", ["maf", "iaf", "realnvp"])
@pytest.mark.usefixtures("cut")
def test_in_single_precision_it_is_as_close_as_that_is(name: str) -> None:
    torch.manual_seed(1)
    flow = shaken(name, 17, hidden=(90, 80))
    precise = copy.deepcopy(flow).double()
    flow.engine, precise.engine = ENGINE, TORCH
    x = torch.randn(77, 17)
    for found, expected in zip(everything(flow, x), everything(precise, x.double()), strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4 * (1 + expected.abs().max().item()))


@pytest.mark.parametrize("strips", [2, 3, 5])
@pytest.mark.parametrize(("threads", "tile"), [(1, 16)])
@pytest.mark.usefixtures("cut", "float64")
def test_matrices_may_lie_in_strips(monkeypatch: pytest.MonkeyPatch, strips: int) -> None:
    monkeypatch.setattr(packing, "STRIPS", strips)
    monkeypatch.setattr(packing, "STRIPPED", 0)
    for name in ("maf", "iaf"):
        flow = shaken(name, 23, hidden=(60, 71))
        other = copy.deepcopy(flow)
        flow.engine, other.engine = ENGINE, TORCH
        x = torch.randn(20, 23)
        for found, expected in zip(everything(flow, x), everything(other, x), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * (1 + expected.abs().max().item()))


def test_a_flow_of_what_chains_know_is_one_stage_and_others_are_joined_between() -> None:
    flow = shaken("maf", 4)
    stages = flow.stages()
    (only,) = ENGINE.join(stages, 4)
    assert isinstance(only.plan, Joined)
    assert only.plan.stages == tuple(stages)
    mixed = next(stage for stage in shaken("nsf-ar", 4).stages() if isinstance(stage.plan, MaskedPlan))
    parts = ENGINE.join([*stages, mixed, *stages], 4)
    joined = [isinstance(part.plan, Joined) for part in parts]
    assert joined == [True, False, True]


@pytest.mark.usefixtures("float64")
def test_what_is_derived_from_a_flow_follows_its_changes() -> None:
    flow = shaken("maf", 5)
    flow.engine = ENGINE
    x, plain = torch.randn(30, 5), copy.deepcopy(flow)
    plain.engine = TORCH

    def same() -> None:
        torch.testing.assert_close(flow(x), plain(x), rtol=0, atol=1e-10)

    same()
    for either in (flow, plain):
        either.train()
    same()
    for either in (flow, plain):
        next(part for part in either.modules() if isinstance(part, BatchNorm)).eval()  # one part alone
    same()
    for either in (flow, plain):
        either.eval()
        order = next(part for part in either.modules() if isinstance(part, Permutation))
        for name, buffer in order.named_buffers():  # as a state that is loaded
            buffer.copy_(torch.arange(5) if name else buffer)
    same()
    for either in (flow, plain):
        assert isinstance(either.transform, Chain)
        del either.transform.transforms[0]
    same()
    swapped = {name: value + 0.1 * (value != 0) for name, value in plain.named_parameters()}
    torch.testing.assert_close(
        torch.func.functional_call(flow, swapped, (x,)), torch.func.functional_call(plain, swapped, (x,))
    )
    same()
    single = flow.float()
    assert single(x.float()).dtype == torch.float32
    torch.testing.assert_close(single(x.float()).double(), plain(x), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("threads", "tile"), [(2, 16)])
@pytest.mark.usefixtures("cut")
def test_two_threads_of_the_users_may_take_one_flow_at_once() -> None:
    flow = shaken("maf", 6)
    flow.engine = ENGINE
    batches = [torch.randn(200, 6) for _ in range(4)]
    expected = [flow(rows).detach() for rows in batches]
    wrong: list[int] = []

    def look(number: int) -> None:
        for _ in range(50):
            with torch.no_grad():
                if not torch.equal(flow(batches[number]), expected[number]):
                    wrong.append(number)

    lookers = [threading.Thread(target=look, args=(number,)) for number in range(4)]
    for looker in lookers:
        looker.start()
    for looker in lookers:
        looker.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(("threads", "tile"), [(2, 16)])
@pytest.mark.usefixtures("cut")
def test_a_process_that_was_forked_off_has_threads_of_its_own() -> None:
    flow = shaken("maf", 6)
    flow.engine = ENGINE
    x = torch.randn(100, 6)
    with torch.no_grad():
        expected = flow(x)
        child = os.fork()
        if child == 0:
            os._exit(0 if torch.equal(flow(x), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("clip", [None, 0.5, 1e3])
def test_the_optimizer_on_two_threads_takes_the_same_step(monkeypatch: pytest.MonkeyPatch, clip: float | None) -> None:
    x, found = torch.randn(20, 60), []
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        monkeypatch.setattr(adam, "ADAM_WORK", 1)
        torch.manual_seed(0)
        flow = shaken("maf", 60, hidden=(200,)).train()
        flow.engine = ENGINE
        descent = Descent(flow, TrainingOptions.model_validate({"clip_norm": clip, "weight_decay": 0.01}))
        for _ in range(4):
            descent.step(x, 1e-2)
        found.append([parameter.detach().clone() for parameter in flow.parameters()])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("gap", [0, 64, 1 << 30])
def test_runs_hold_every_weight_that_a_mask_allows(gap: int) -> None:
    network = shaken("maf", 30, hidden=(80, 90)).transform.transforms[0].conditioner
    inside = torch.zeros(network.packing.size)
    runs = network.packing.runs(gap)
    assert all(a[1] + gap < b[0] for a, b in itertools.pairwise(runs))
    for start, stop in runs:
        inside[start:stop] += 1
    assert inside.max() == 1
    dense = [(layer.mask(), torch.ones(layer.shape[0])) for layer in network.packing.layers]
    assert inside[network.packing.pack(dense) == 1].all()
    if gap == 0:
        assert inside.sum() == network.packing.pack(dense).sum()


@pytest.mark.usefixtures("float64")
def test_what_kernels_would_trust_is_looked_at_first() -> None:
    flow = shaken("maf", 5)
    flow.engine = ENGINE
    elsewhere = copy.deepcopy(flow).to("meta")
    with pytest.raises(ValueError, match="expected rows"):
        elsewhere(torch.randn(3, 5))
    with pytest.raises(ValueError, match="expected rows"):
        flow.moved_by(0, torch.randn(3, 5).float())
    with pytest.raises(ValueError, match="other columns"):
        Flow(5, Chain([*shaken("maf", 5).transform, BatchNorm(3)]), ENGINE)(torch.randn(3, 5))
    with pytest.raises(ValueError, match="other columns"):
        Flow(5, Chain([*shaken("maf", 5).transform, Permutation(torch.arange(3))]), ENGINE)(torch.randn(3, 5))
    flow.transform.float()
    with pytest.raises(ValueError, match="a weight is of"):
        flow(torch.randn(3, 5))


@pytest.mark.usefixtures("float64")
def test_weights_and_gradients_may_lie_anyhow() -> None:
    flow, x = shaken("maf", 5), torch.randn(30, 5)
    flow.engine = ENGINE
    expected = flow(x).detach()
    apart = {name: torch.stack([value, value], -1)[..., 0] for name, value in flow.named_parameters()}
    torch.testing.assert_close(torch.func.functional_call(flow, apart, (x,)), expected, rtol=0, atol=1e-12)
    flow.backpropagate(x)
    gradients = [parameter.grad.clone() for parameter in flow.parameters()]
    for parameter in flow.parameters():
        parameter.grad = torch.zeros(*parameter.shape, 2)[..., 0]
    flow.backpropagate(x)
    for parameter, gradient in zip(flow.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=0)


@pytest.mark.usefixtures("float64")
def test_parameters_may_move_between_a_density_and_its_gradient() -> None:
    flow, x = shaken("maf", 5), torch.randn(30, 5)
    flow.engine = ENGINE
    expected = torch.autograd.grad(-flow(x).mean(), list(flow.parameters()))
    loss = -flow(x).mean()
    for parameter in flow.parameters():
        parameter.data = torch.full_like(parameter, torch.nan)
    for found, gradient in zip(torch.autograd.grad(loss, list(flow.parameters())), expected, strict=True):
        torch.testing.assert_close(found, gradient, rtol=0, atol=0)
