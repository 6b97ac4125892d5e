"""One step of training, against the textbook's of torch's parts."""

from __future__ import annotations

import copy

import pytest
import torch
from flow_cases import shaken

from flowbench import flows
from flowbench.config import TrainingOptions
from flowbench.flows import Flow
from flowbench.training.step import Descent
from flowbench.transforms import Affine, Body, Chain, MaskedAutoregressive

pytestmark = pytest.mark.usefixtures("float64")

TRAINABLE = pytest.mark.parametrize("name", sorted({*flows.names()} - {"gaussian", "gmm", "kde"}))


@TRAINABLE
@pytest.mark.parametrize("training", [True, False])
def test_backpropagate_leaves_what_backward_leaves(name: str, training: bool) -> None:
    flow = shaken(name, 5).train(training)
    x = torch.randn(30, 5)
    loss = -flow(x).mean()
    expected = torch.autograd.grad(loss, list(flow.parameters()))
    found = flow.backpropagate(x)
    torch.testing.assert_close(found, loss.detach(), rtol=0, atol=1e-12)
    for parameter, gradient in zip(flow.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=1e-12)


@TRAINABLE
@pytest.mark.parametrize("clip", [None, 0.5, 1e3])
def test_a_step_is_adams_after_clipping(name: str, clip: float | None) -> None:
    flow = shaken(name, 4).train()
    other = copy.deepcopy(flow)
    descent = Descent(flow, TrainingOptions.model_validate({"clip_norm": clip, "weight_decay": 0.01}))
    adam = torch.optim.Adam(other.parameters(), lr=1e-2, weight_decay=0.01)
    for _ in range(3):
        x = torch.randn(20, 4)
        adam.zero_grad()
        (-other(x).mean()).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(other.parameters(), clip)
        adam.step()
        descent.step(x, 1e-2)
    for found, expected in zip(flow.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)  # torch clips by norm + 1e-6


@pytest.mark.parametrize("clip", [None, 0.5])
def test_a_step_is_adamaxs_after_clipping(clip: float | None) -> None:
    flow = shaken("maf", 4).train()
    other = copy.deepcopy(flow)
    descent = Descent(flow, TrainingOptions(optimizer="adamax", clip_norm=clip, weight_decay=0.01))
    adamax = torch.optim.Adamax(other.parameters(), lr=1e-2, weight_decay=0.01)
    for _ in range(3):
        x = torch.randn(20, 4)
        adamax.zero_grad()
        (-other(x).mean()).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(other.parameters(), clip)
        adamax.step()
        descent.step(x, 1e-2)
    for found, expected in zip(flow.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["adam", "adamax"])
def test_weights_are_averaged_and_come_back(optimizer: str) -> None:
    flow = shaken("maf", 4).train()
    descent = Descent(flow, TrainingOptions(optimizer=optimizer, averaging=0.5))  # type: ignore[arg-type]

    def weights() -> torch.Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in flow.parameters()])

    average = weights()
    for taken in range(1, 7):
        descent.step(torch.randn(20, 4), 1e-2)
        kept = min(0.5, (1 + taken) / (10 + taken))
        average = kept * average + (1 - kept) * weights()
    own = weights()
    with descent.averaged():
        torch.testing.assert_close(weights(), average, rtol=0, atol=1e-12)
    assert torch.equal(weights(), own)
    for anew in (descent.average_anew, descent.forget):
        descent.step(torch.randn(20, 4), 1e-2)
        anew()
        own = weights()
        with descent.averaged():
            assert torch.equal(weights(), own)


def test_nothing_moves_after_what_is_not_finite() -> None:
    flow = shaken("maf", 3).train()
    descent = Descent(flow, TrainingOptions.model_validate({}))
    before = [parameter.detach().clone() for parameter in flow.parameters()]
    assert not descent.step(torch.full((4, 3), torch.nan), 1e-2).isfinite()
    assert descent.stopped
    descent.step(torch.randn(4, 3), 1e-2)
    assert all(torch.equal(a, b) for a, b in zip(before, flow.parameters(), strict=True))


def test_two_backward_passes_through_one_graph_give_the_same() -> None:
    flow = shaken("iaf", 4)
    loss = flow(torch.randn(6, 4)).mean()
    first = torch.autograd.grad(loss, list(flow.parameters()), retain_graph=True)
    second = torch.autograd.grad(loss, list(flow.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_per_row_gradients_by_torch_func_are_autograds() -> None:
    flow = shaken("maf", 3).train(False)
    x = torch.randn(5, 3)
    named = dict(flow.named_parameters())

    def one(parameters: dict[str, torch.Tensor], row: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(flow, parameters, (row[None],))[0]

    each = torch.func.vmap(torch.func.grad(one), (None, 0))(named, x)
    for name, parameter in named.items():
        expected = [torch.autograd.grad(flow(row[None])[0], parameter)[0] for row in x]
        torch.testing.assert_close(each[name], torch.stack(expected), rtol=0, atol=1e-10)


def test_weights_that_moved_before_backward_are_an_error() -> None:
    flow = shaken("maf", 3)
    loss = flow(torch.randn(4, 3)).mean()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_transform_used_twice_adds_its_gradients_and_a_frozen_one_has_none() -> None:
    torch.manual_seed(0)
    shared, frozen = (MaskedAutoregressive(3, Body((5,)), Affine(2.0)) for _ in range(2))
    frozen.requires_grad_(False)
    flow = Flow(3, Chain([shared, frozen, shared]))
    x = torch.randn(6, 3)
    (expected,) = torch.autograd.grad(-flow(x).mean(), [shared.conditioner.flat])
    flow.backpropagate(x)
    torch.testing.assert_close(shared.conditioner.flat.grad, expected, rtol=0, atol=1e-12)
    assert frozen.conditioner.flat.grad is None
