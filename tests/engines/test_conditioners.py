"""Residual networks, dropout and what is given: every engine against the equations."""

from __future__ import annotations

import pytest
import torch
from test_engines import ENGINES, EVERY_ENGINE, agree, shaken, strips, with_gradients  # noqa: F401  # a fixture
from torch import Tensor

from flowbench.config import TrainingOptions
from flowbench.engines import Engine
from flowbench.engines.eager import substitution
from flowbench.flows import Flow
from flowbench.flows.core.given import Given
from flowbench.training.step import Descent
from flowbench.transforms import (
    RELU,
    TANH,
    Activation,
    Affine,
    Body,
    Chain,
    Coupling,
    Gated,
    GaussianMixture,
    Inverse,
    MaskedAutoregressive,
    Permutation,
    RationalQuadraticSpline,
    Univariate,
    dense,
)
from flowbench.tuning import TILE, TORCH_BLOCK

pytestmark = pytest.mark.usefixtures("float64")

SOFTPLUS = Activation("softplus", torch.nn.functional.softplus)


@EVERY_ENGINE
@pytest.mark.parametrize("activation", [RELU, TANH, SOFTPLUS], ids=lambda activation: activation.name)
@pytest.mark.parametrize("hidden", [(9,), (9, 7), (20, 6, 13), (3, 4, 5)])
@pytest.mark.parametrize("dim", [1, 6, TORCH_BLOCK + 3])
def test_residual_networks_are_their_equations(
    engine: Engine, activation: Activation, hidden: tuple[int, ...], dim: int
) -> None:
    torch.manual_seed(0)
    masked = shaken(MaskedAutoregressive(dim, Body(hidden, activation, residual=True), Affine(2.0)))
    agree(masked, engine, torch.randn(4, dim), 1e-9)
    x = torch.randn(4, dim)
    for found, expected in zip(masked.inverse(x), masked.inverse_by_passes(x), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * (1 + expected.detach().abs().max().item()))
    coupled = dense(dim // 2, Body(hidden, activation, residual=True), 2 * (dim - dim // 2), fan_in=dim)
    agree(shaken(Coupling(dim, 1, Affine(2.0), [coupled])), engine, x, 1e-9)


def test_a_block_adds_to_what_comes_before_it() -> None:
    network = shaken(dense(3, Body((4, 5), TANH, residual=True), 2, fan_in=3))  # type: ignore[type-var]
    (w0, b0), (w1, b1), (w2, b2), (w3, b3) = network.layers()
    x = torch.randn(6, 3)
    s = x @ w0.t() + b0
    s = s + torch.tanh(torch.tanh(s) @ w1.t() + b1) @ w2.t() + b2
    torch.testing.assert_close(network(x), torch.tanh(s) @ w3.t() + b3)


def conditional(engine: Engine, univariate: Univariate, hidden: tuple[int, ...] = (9, 8)) -> Flow:
    """A flow of three columns, given a number and one of four classes."""
    torch.manual_seed(1)
    given = Given((0, 4))
    body = Body(hidden, TANH)
    network = dense(1 + given.width, body, 2 * 2, fan_in=3)
    steps = [
        MaskedAutoregressive(3, body, univariate, given.width),
        Permutation.reverse(3),
        Coupling(3, 1, Affine(2.0), [network], given.width),
        Inverse(MaskedAutoregressive(3, body, Gated() if isinstance(univariate, Gated) else Affine(2.0), given.width)),
        MaskedAutoregressive(3, body, univariate, given.width),
    ]
    return Flow(3, shaken(Chain(steps)), engine, given)


def rows(n: int) -> Tensor:
    return torch.cat([torch.randn(n, 1), torch.randint(4, (n, 1)).double(), torch.randn(n, 3)], 1)


@EVERY_ENGINE
@pytest.mark.parametrize("univariate", [Affine(2.0), Gated(), GaussianMixture(2)], ids=["affine", "gated", "mixture"])
def test_what_is_given_passes_and_is_seen_by_every_column(engine: Engine, univariate: Univariate) -> None:
    flow, x = conditional(engine, univariate), rows(7)
    u, log_det = flow.to_noise(x)
    assert torch.equal(u[:, :2], x[:, :2])
    back, log_det_back = flow.to_data(u)
    torch.testing.assert_close((back, log_det_back), (x, -log_det), rtol=0, atol=1e-8)
    context = flow.given(x[:, :2])  # type: ignore[misc]
    written, expected = flow.transform(x[:, 2:], context)
    torch.testing.assert_close((u[:, 2:], log_det), (written, expected), rtol=0, atol=1e-9)
    for moved in (0, 1):
        other = x.clone()
        other[:, moved] = (other[:, moved] + 1) % 4
        assert (flow.to_noise(other)[0][:, 2:] != u[:, 2:]).all()  # the first column, too


@EVERY_ENGINE
@pytest.mark.parametrize("univariate", [Gated(), GaussianMixture(2)], ids=["gated", "mixture"])
def test_a_conditional_flow_has_its_gradients(engine: Engine, univariate: Univariate) -> None:
    flow, x = conditional(engine, univariate), rows(7)
    flow.zero_grad()
    flow.backpropagate(x)
    loss = -(torch.func.functional_call(flow, dict(flow.named_parameters()), (x,))).mean()
    for (label, parameter), expected in zip(
        flow.named_parameters(), torch.autograd.grad(loss, list(flow.parameters())), strict=True
    ):
        assert parameter.grad is not None, label
        torch.testing.assert_close(parameter.grad, expected, msg=label)
    u, log_det = flow.transform(x[:, 2:], flow.given(x[:, :2]))  # type: ignore[misc]
    by_hand = torch.distributions.Normal(0.0, 1.0).log_prob(u).sum(1) + log_det
    for mine, theirs in zip(
        torch.autograd.grad(-by_hand.mean(), list(flow.parameters())), flow.parameters(), strict=True
    ):
        torch.testing.assert_close(theirs.grad, mine, rtol=1e-6, atol=1e-9)
    descent = Descent(flow, TrainingOptions())
    before = float(descent.step(x, 1e-2))
    assert float(descent.step(x, 1e-2)) < before


@EVERY_ENGINE
def test_a_conditional_flow_draws_for_what_it_is_given(engine: Engine) -> None:
    flow, given = conditional(engine, GaussianMixture(2)), rows(50)[:, :2]
    x, log_prob = flow.sample_and_log_prob(50, given=given)
    assert torch.equal(x[:, :2], given)
    torch.testing.assert_close(log_prob, flow(x), rtol=0, atol=1e-8)
    with pytest.raises(ValueError, match="draws rows for what it is given"):
        flow.sample(50)


@EVERY_ENGINE
@pytest.mark.parametrize("univariate", [Affine(2.0), RationalQuadraticSpline(4, 3.0)], ids=["affine", "spline"])
@pytest.mark.parametrize(
    ("dim", "context", "n", "body"),
    [
        (1, 1, 1, Body((4,), TANH)),
        (2, 40, 7, Body((11,), RELU)),
        (5, 3, TILE + 3, Body((20, 21, 22), TANH, residual=True)),
        (TORCH_BLOCK + 1, 3, 7, Body((40, 30), RELU)),
        (TORCH_BLOCK + 1, 40, 2, Body((12,), TANH, residual=True)),  # fewer units than degrees
    ],
)
@pytest.mark.usefixtures("strips")
def test_conditional_substitution_is_its_equations_with_the_gradient_of_what_is_given(
    engine: Engine, univariate: Univariate, dim: int, context: int, n: int, body: Body
) -> None:
    torch.manual_seed(dim)
    masked = shaken(MaskedAutoregressive(dim, body, univariate, context))
    flow = Flow(dim, masked, engine, Given((0,) * context))

    def written(rows: Tensor) -> tuple[Tensor, Tensor]:
        x, log_det = masked.inverse(rows[:, context:], rows[:, :context])
        return torch.cat([rows[:, :context], x], 1), log_det

    rows = torch.randn(n, context + dim)
    found, expected = (with_gradients(move, rows, masked) for move in (flow.to_data, written))
    for f, e, limit in zip(found, expected, (1e-12, 1e-12, 1e-10, 1e-10), strict=True):
        torch.testing.assert_close(f, e, rtol=0, atol=limit * (1 + e.detach().abs().max().item()))


def test_compiled_steps_take_conditional_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    for steps in ("inverse_steps", "gradient_steps"):
        monkeypatch.setattr(substitution, steps, lambda *_: pytest.fail("torch took the steps"))
    for engine in (ENGINES["numba"], ENGINES["numba in blocks"]):
        flow, x = conditional(engine, Affine(2.0)), rows(7)
        flow.backpropagate(x)
        flow.to_data(x)[0].sum().backward()
        mixture = MaskedAutoregressive(3, Body((9, 8), TANH), GaussianMixture(2), 2)
        Flow(3, mixture, engine, Given((0, 0))).sample(7, given=x[:, :2])


def test_numbers_that_are_given_are_the_context() -> None:
    x = rows(7)
    assert torch.equal(Given((0, 0))(x[:, :2]), x[:, :2])
    assert Given((0, 0))(x[:, :2]).data_ptr() == x.data_ptr()  # not a copy


@EVERY_ENGINE
def test_dropout_is_of_training_alone_and_has_its_gradient(engine: Engine) -> None:
    torch.manual_seed(3)
    masked = shaken(MaskedAutoregressive(5, Body((40, 30), dropout=0.5), Affine(2.0)))
    flow, x = Flow(5, masked, engine), torch.randn(300, 5)
    flow.eval()
    assert torch.equal(flow(x), flow(x))
    flow.train()
    assert not torch.equal(flow(x), flow(x))

    def once(move: object) -> list[Tensor]:
        torch.manual_seed(7)
        return with_gradients(move, x, masked)

    for move in (flow.to_noise, flow.to_data):
        out, _, *gradients = once(move)
        assert out.isfinite().all()
        step = 1e-6 * torch.randn_like(masked.conditioner.flat) * (masked.conditioner.flat != 0)
        weigh = torch.linspace(-1, 2, out.numel()).view_as(out)
        values = []
        for side in (1, -2):
            with torch.no_grad():
                masked.conditioner.flat += side * step
            out, log_det, *_ = once(move)
            values.append((out * weigh).sum() + (log_det * torch.linspace(1, -1, len(out))).sum())
        with torch.no_grad():
            masked.conditioner.flat += step
        slope = (values[0] - values[1]).item() / 2
        assert (gradients[1] * step).sum().item() == pytest.approx(slope, rel=1e-4)


def test_units_that_stay_make_up_for_those_that_are_dropped() -> None:
    torch.manual_seed(0)
    network = dense(3, Body((200, 200), TANH, residual=True, dropout=0.3), 2, fan_in=3)
    x = torch.randn(1, 3).expand(4000, 3)
    network.train()
    dropped = network(x)
    assert dropped.std(0).min() > 0
    torch.testing.assert_close(dropped.mean(0), network.eval()(x)[0], rtol=0, atol=0.02)


@EVERY_ENGINE
@pytest.mark.parametrize(("dim", "components", "n"), [(1, 1, 1), (3, 2, 7), (5, 10, 300), (40, 12, 600)])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 2e-5)], ids=["double", "single"])
def test_a_mixtures_density_is_its_equation(
    engine: Engine, dim: int, components: int, n: int, dtype: torch.dtype, limit: float
) -> None:
    torch.manual_seed(0)
    masked = MaskedAutoregressive(dim, Body((20,)), GaussianMixture(components)).to(dtype)
    x = (torch.randn(n, dim, dtype=dtype) * 3).requires_grad_()
    flow = Flow(dim, masked, engine).to(dtype)
    masked.conditioner.begin(3 * torch.randn(dim * masked.univariate.parameters))  # some widths are held
    theta = masked.conditioner.parameters_of(x)
    found, expected = flow(x), masked.univariate.density(x, theta).sum(-1)
    torch.testing.assert_close(found, expected, rtol=limit, atol=limit)
    tensors, weigh = [x, masked.conditioner.flat], torch.linspace(-1, 2, n, dtype=dtype)
    mine, theirs = (
        torch.autograd.grad((value * weigh).sum(), tensors, retain_graph=True) for value in (found, expected)
    )
    for own, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=limit, atol=10 * limit * (1 + float(other.abs().max())))
