"""Every engine against the equations: both directions and all gradients, at all shapes; and what none claims."""

from __future__ import annotations

import copy
import pickle
import sys

import pytest
import torch
from torch import Tensor

from flowbench import engines
from flowbench.engines import TORCH, Engine, choose
from flowbench.flows import Flow
from flowbench.training.optimizers import AdamInnerEpsilon
from flowbench.transforms import (
    ACTIVATIONS,
    TANH,
    Activation,
    Affine,
    BatchNorm,
    Body,
    Chain,
    Coupling,
    Gated,
    GaussianMixture,
    Inverse,
    MaskedAutoregressive,
    Network,
    Permutation,
    RationalQuadraticSpline,
    Transform,
    Univariate,
    dense,
    packing,
)
from flowbench.transforms.made import hidden_degrees
from flowbench.tuning import TILE, TORCH_BLOCK

numba_engine = pytest.importorskip("flowbench.engines.numba.engine", reason="needs numba")

pytestmark = pytest.mark.usefixtures("float64")

ENGINES = {
    "eager": TORCH,
    "numba": numba_engine.NumbaEngine(),
    "numba in blocks": numba_engine.NumbaEngine(walk_work=-1),
}
MAPS = pytest.mark.parametrize(
    "univariate",
    [Affine(2.0, gain=0.7), GaussianMixture(3), RationalQuadraticSpline(4, 2.0)],
    ids=["affine", "mixture", "spline"],
)
"""Those that kernels know."""

EVERY_ENGINE = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES.keys())

SHAPES = pytest.mark.parametrize(
    ("dim", "hidden", "bound", "activation"),
    [
        (1, (4,), None, "relu"),
        (2, (3,), 3.0, "tanh"),
        (7, (), 2.0, "relu"),  # a linear conditioner
        (6, (10, 11), None, "tanh"),
        (TORCH_BLOCK, (50, 40), 2.0, "relu"),
        (TORCH_BLOCK + 1, (20,), 2.0, "relu"),  # fewer units than degrees, and a block of one column
        (3 * TORCH_BLOCK - 5, (120, 90, 110), 2.0, "relu"),
    ],
)


class Softplus(Activation):
    """A third activation, whose slope no output tells engines."""

    def __init__(self) -> None:
        super().__init__("softplus", torch.nn.functional.softplus)


class Cubic(Univariate):
    """u = a·(x − μ)³ + b·(x − μ) with a, b > 0: monotone, inverted in closed form (Cardano)."""

    parameters = 3

    def forward(self, x: Tensor, theta: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        shift, a, b = theta[0], theta[1].exp(), theta[2].exp()
        y = x - shift
        return a * y**3 + b * y, (3 * a * y**2 + b).log()

    def inverse(self, u: Tensor, theta: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        shift, a, b = theta[0], theta[1].exp(), theta[2].exp()
        p, half = b / (3 * a), u / (2 * a)
        root = (half**2 + p**3).sqrt()
        far = torch.where(half >= 0, half + root, half - root)  # the other one would lose its digits
        first = far.abs().pow(1 / 3) * far.sign()
        y = first - p / first
        return y + shift, -(3 * a * y**2 + b).log()


def shaken(transform: Transform) -> Transform:
    """With weights, biases and statistics that are not special; those that masks forbid stay zero."""
    networks = [module for module in transform.modules() if isinstance(module, Network)]
    own = {id(network.flat) for network in networks}
    with torch.no_grad():
        for parameter in transform.parameters():
            parameter += torch.randn_like(parameter) * 0.2 * ((parameter != 0) | (id(parameter) not in own))
        for network in networks:
            for view in network.packing.views(network.flat):
                view.bias.normal_(std=0.5)
    return transform


def autoregressive(dim: int, hidden: tuple[int, ...], univariate: Univariate, activation: object) -> Transform:
    torch.manual_seed(dim)
    return shaken(MaskedAutoregressive(dim, Body(hidden, ACTIVATIONS.get(activation, activation)), univariate))  # type: ignore[arg-type]


def with_gradients(move: object, x: Tensor, transform: Transform) -> list[Tensor]:
    x = x.clone().requires_grad_()
    out, log_det = move(x)  # type: ignore[operator]
    weigh_out, weigh_log_det = torch.linspace(-1, 2, out.numel()).view_as(out), torch.linspace(1, -1, len(out))
    loss = (out * weigh_out).sum() + (log_det * weigh_log_det).sum()
    wanted = [x, *transform.parameters()]
    return [out, log_det, *torch.autograd.grad(loss, wanted, materialize_grads=True, allow_unused=True)]


def agree(transform: Transform, engine: Engine, x: Tensor, limit: float = 1e-10) -> None:
    """The engine's directions and gradients are those of the equations; without gradients it gives the same."""
    flow = Flow(x.shape[1], transform, engine)
    pairs = ((flow.to_noise, transform.forward, 1e-2), (flow.to_data, transform.inverse, 1))
    for fast, written, share in pairs:  # forward is direct: its rounding is less
        found, expected = with_gradients(fast, x, transform), with_gradients(written, x, transform)
        for f, e in zip(found, expected, strict=True):
            torch.testing.assert_close(f, e, rtol=0, atol=share * limit * (1 + e.detach().abs().max().item()))
        with torch.no_grad():
            torch.testing.assert_close(fast(x)[0], expected[0], rtol=0, atol=limit * (1 + expected[0].abs().max()))


@pytest.fixture(params=[1, 3], ids=["whole", "stripped"])
def strips(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices in one piece, and in strips as large networks keep them."""
    monkeypatch.setattr(packing, "STRIPS", request.param)
    monkeypatch.setattr(packing, "STRIPPED", 0)


@EVERY_ENGINE
@SHAPES
@pytest.mark.usefixtures("strips")
def test_an_engine_is_the_equations_with_their_gradients(
    engine: Engine, dim: int, hidden: tuple[int, ...], bound: float | None, activation: str
) -> None:
    built = autoregressive(dim, hidden, Affine(bound), activation)
    for spread in (1.0, 30.0):
        agree(built, engine, torch.randn(7, dim) * spread)


@SHAPES
def test_substitution_is_the_inverse_by_passes_with_its_gradients(
    dim: int, hidden: tuple[int, ...], bound: float | None, activation: str
) -> None:
    built = autoregressive(dim, hidden, Affine(bound), activation)
    u = torch.randn(7, dim)
    found, expected = (
        with_gradients(move, u, built)
        for move in (built.inverse, built.inverse_by_passes)  # type: ignore[operator]
    )
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e, rtol=0, atol=1e-10 * (1 + e.detach().abs().max().item()))


@EVERY_ENGINE
@pytest.mark.parametrize(
    "univariate",
    [Affine(2.0, gain=0.7), Gated(), Cubic(), GaussianMixture(3), RationalQuadraticSpline(4, 2.0)],
    ids=["affine", "gated", "cubic", "mixture", "spline"],
)
@pytest.mark.parametrize("activation", [TANH, Softplus()], ids=["tanh", "softplus"])
def test_a_new_map_and_a_new_activation_serve_every_transform_in_both_directions(
    engine: Engine, univariate: Univariate, activation: object
) -> None:
    dim = 6
    flows = [
        autoregressive(dim, (9, 8), univariate, activation),
        autoregressive(dim, (), univariate, activation),
        shaken(MaskedAutoregressive(dim, Body((9, 8, 10, 7, 6), activation, residual=True), univariate)),  # type: ignore[arg-type]
        shaken(Coupling(dim, 1, univariate, [dense(3, Body((7,), activation), 3 * univariate.parameters, dim)])),  # type: ignore[arg-type]
    ]
    for transform in flows:
        agree(transform, engine, torch.randn(5, dim), 1e-8)
        back, _ = transform.inverse(transform(x := torch.randn(5, dim))[0])
        torch.testing.assert_close(back, x, rtol=0, atol=1e-7)


@EVERY_ENGINE
@pytest.mark.parametrize("dim", [1, TORCH_BLOCK + 1])
def test_a_gated_map_is_trained_in_either_direction(engine: Engine, dim: int) -> None:
    masked = autoregressive(dim, (30,), Gated(), "relu")
    with torch.no_grad():
        masked.conditioner.flat *= 0.3  # type: ignore[union-attr]  # nothing bounds what an inverse widens
    for transform in (masked, Inverse(masked)):
        flow, x = Flow(dim, transform, engine), torch.randn(8, dim)
        agree(transform, engine, x)
        flow.backpropagate(x)
        u, log_det = transform(x)
        loss = -(torch.distributions.Normal(0.0, 1.0).log_prob(u).sum(1) + log_det).mean()
        for parameter, gradient in zip(
            flow.parameters(), torch.autograd.grad(loss, list(flow.parameters())), strict=True
        ):
            torch.testing.assert_close(parameter.grad, gradient)


class Shift(Univariate):
    """u = x + t: one parameter, and a log-derivative that depends on nothing (NICE's)."""

    parameters = 1

    def forward(self, x: Tensor, theta: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        return x + theta[0], torch.zeros_like(x.detach())

    def inverse(self, u: Tensor, theta: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        return u - theta[0], torch.zeros_like(u.detach())


@EVERY_ENGINE
def test_a_map_of_constant_volume_is_trained(engine: Engine) -> None:
    masked = autoregressive(5, (6,), Shift(), "relu")
    coupled = shaken(Coupling(5, 0, Shift(), [dense(3, Body((7,), TANH), 2, 5)]))
    for transform in (masked, coupled, Inverse(masked)):
        agree(transform, engine, torch.randn(6, 5))
        flow, x = Flow(5, transform, engine), torch.randn(8, 5)
        flow.backpropagate(x)
        expected = torch.autograd.grad(-flow(x).mean(), list(flow.parameters()))
        for parameter, gradient in zip(flow.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)


@EVERY_ENGINE
def test_networks_may_share_a_couplings_parameters_as_they_like(engine: Engine) -> None:
    networks = [dense(3, Body((7,), TANH), outputs, 5) for outputs in (4, 2)]  # 3 parameters of 2 columns
    agree(shaken(Coupling(5, 0, Cubic(), networks)), engine, torch.randn(6, 5), 1e-8)


@EVERY_ENGINE
@pytest.mark.parametrize("name", ["to_noise", "to_data", "backpropagate"])
def test_rows_that_are_not_the_flows_are_refused(engine: Engine, name: str) -> None:
    flow = Flow(3, autoregressive(3, (8,), Affine(), "relu"), engine)
    for rows in (torch.zeros(4, 2), torch.zeros(4, 4), torch.zeros(3), torch.zeros(4, 3).float()):
        with pytest.raises(ValueError, match=r"expected rows of shape \(N, 3\) of torch.float64"):
            getattr(flow, name)(rows)


def test_a_copy_of_a_flow_is_run_by_the_same_engine() -> None:
    flow = Flow(3, autoregressive(3, (8,), Affine(), "tanh"))
    x = torch.randn(5, 3)
    for copied in (copy.deepcopy(flow), pickle.loads(pickle.dumps(flow))):
        assert choose(copied(x)) is choose(flow(x))
        assert torch.equal(copied(x), flow(x))


@EVERY_ENGINE
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("bound", [None, 2.0])
def test_couplings_permutations_and_normalisation_are_their_equations(
    engine: Engine, training: bool, dim: int, bound: float | None
) -> None:
    torch.manual_seed(dim)
    networks = [dense(dim - dim // 2, Body((7, 6), ACTIVATIONS[kind]), dim // 2, dim) for kind in ("relu", "tanh")]
    norm = BatchNorm(dim)
    norm.set_statistics(torch.randn(dim), torch.rand(dim) + 0.5)
    order = torch.randperm(dim)
    coupling = Coupling(dim, 0, Affine(bound, gain=1.0), networks)
    for transform in (coupling, Permutation(order), norm):
        shaken(transform).train(training)
        flow, x = Flow(dim, transform, engine), torch.randn(9, dim)
        for fast, written in ((flow.to_noise, transform.forward), (flow.to_data, transform.inverse)):
            for f, e in zip(with_gradients(fast, x, transform), with_gradients(written, x, transform), strict=True):
                torch.testing.assert_close(f, e, rtol=0, atol=1e-11 * (1 + e.detach().abs().max().item()))


class Doubled(Transform):
    """A transform without a plan, with a parameter of its own."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.log_scale = torch.nn.Parameter(torch.randn(dim))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * self.log_scale.exp(), self.log_scale.sum().expand(len(x))

    def inverse(self, u: Tensor) -> tuple[Tensor, Tensor]:
        return u / self.log_scale.exp(), -self.log_scale.sum().expand(len(u))


@EVERY_ENGINE
def test_a_transform_without_a_plan_is_run_as_it_is_written_in_any_chain(engine: Engine) -> None:
    chain = Chain([Doubled(4), autoregressive(4, (6,), Affine(), "relu"), Inverse(Doubled(4)), Permutation.reverse(4)])
    agree(chain, engine, torch.randn(6, 4))
    flow = Flow(4, chain, engine)
    x = torch.randn(8, 4)
    expected = torch.autograd.grad(-flow(x).mean(), list(flow.parameters()))
    loss = flow.backpropagate(x)
    assert loss.item() == pytest.approx(-flow(x).mean().item())
    for parameter, gradient in zip(flow.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@EVERY_ENGINE
@SHAPES
def test_float32_agrees_to_rounding(
    engine: Engine, dim: int, hidden: tuple[int, ...], bound: float | None, activation: str
) -> None:
    built = autoregressive(dim, hidden, Affine(bound), activation)
    rows = torch.randn(7, dim)
    expected = [move(rows)[0] for move in (built.inverse, built.forward)]
    flow = Flow(dim, built, engine).float()
    for move, right in zip((flow.to_data, flow.to_noise), expected, strict=True):
        found = move(rows.float())[0]
        torch.testing.assert_close(found.double(), right, rtol=1e-4, atol=1e-4 * right.abs().max().item())


@EVERY_ENGINE
@pytest.mark.parametrize("grad", [True, False])
def test_one_row_is_inverted_and_the_weights_stay(engine: Engine, grad: bool) -> None:
    built = autoregressive(7, (8, 9), Affine(2.0), "relu")
    before = [parameter.detach().clone() for parameter in built.parameters()]
    u, flow = torch.randn(1, 7), Flow(7, built, engine)
    with torch.set_grad_enabled(grad):
        for _ in range(2):
            torch.testing.assert_close(flow.to_data(u)[0], built.inverse(u)[0], rtol=0, atol=1e-12)
    assert all(torch.equal(a, b) for a, b in zip(before, built.parameters(), strict=True))


@EVERY_ENGINE
@MAPS
def test_no_rows_are_no_error(engine: Engine, univariate: Univariate) -> None:
    flow = Flow(5, autoregressive(5, (8,), univariate, "relu"), engine)
    for move in (flow.to_noise, flow.to_data):
        out, log_det = move(torch.zeros(0, 5))
        assert out.shape == (0, 5)
        assert log_det.shape == (0,)


@EVERY_ENGINE
@MAPS
def test_draws_are_those_of_the_equations_in_both_precisions(engine: Engine, univariate: Univariate) -> None:
    built = shaken(MaskedAutoregressive(5, Body((9, 8, 10), ACTIVATIONS["relu"], residual=True), univariate))
    torch.manual_seed(1)
    noise = Flow(5, built).noise(TILE + 3)
    expected = Flow(5, built, TORCH).drawn(noise)
    for dtype, limit in ((torch.float64, 1e-10), (torch.float32, 1e-3)):
        found = Flow(5, copy.deepcopy(built), engine).to(dtype).drawn(noise.to(dtype))
        for f, e in zip(found, expected, strict=True):
            torch.testing.assert_close(f.double(), e, rtol=limit, atol=limit)


@pytest.mark.parametrize("threaded", [0, 1 << 40], ids=["two threads", "one"])
@pytest.mark.parametrize(("bins", "bound"), [(2, 0.5), (8, 3.0), (31, 1.0)])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-11), (torch.float32, 1e-4)])
@pytest.mark.parametrize(("dim", "rows"), [(3, TILE + 5), (1, 1), (2, 0)])
def test_a_spline_in_kernels_is_its_equations_to_the_edges_and_beyond(
    monkeypatch: pytest.MonkeyPatch,
    threaded: int,
    bins: int,
    bound: float,
    dtype: torch.dtype,
    limit: float,
    dim: int,
    rows: int,
) -> None:
    monkeypatch.setattr(numba_engine, "THREADED", threaded)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    torch.manual_seed(bins)
    spline, engine = RationalQuadraticSpline(bins, bound), ENGINES["numba"]
    x, theta = (bound * torch.randn(dim, rows)).to(dtype), 0.5 * torch.randn(dim * spline.parameters, rows).to(dtype)
    far = torch.tensor([torch.nan, torch.inf, -torch.inf, bound, -bound, 1e30, -1e30]).to(dtype)[: max(0, rows - 1)]
    x[0, : len(far)] = far
    above = torch.randn(dim, rows).to(dtype), torch.randn(rows).to(dtype)

    def both(way: Engine, dtype: torch.dtype) -> list[Tensor]:
        place, given, gradients = x.to(dtype), theta.to(dtype), tuple(part.to(dtype) for part in above)
        image = way.move(spline, place, given)  # type: ignore[attr-defined]
        pulled = way.pull_move(spline, place, given, image, gradients)  # type: ignore[attr-defined]
        sound = ~x.isnan().any(0)  # a gradient where there is no value may be anything
        return [*image, *way.move_back(spline, place, given), *(part[:, sound] for part in pulled)]  # type: ignore[attr-defined]

    for found, expected in zip(both(engine, dtype), both(TORCH, torch.float64), strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=10 * limit, atol=10 * limit, equal_nan=True)


@EVERY_ENGINE
@MAPS
def test_rows_beyond_a_tile_and_rows_that_are_not_finite_are_rows_of_their_own(
    engine: Engine, univariate: Univariate
) -> None:
    built = autoregressive(9, (12, 13), univariate, "relu")
    flow = Flow(9, built, engine)
    rows = torch.randn(3 * TILE + 5, 9)
    for fast, written in ((flow.to_noise, built.forward), (flow.to_data, built.inverse)):
        expected = written(rows)[0]
        spoilt = rows.clone()
        spoilt[[1, TILE]] = torch.tensor([[torch.nan], [torch.inf]])
        found = fast(spoilt)[0]
        sound = torch.ones(len(rows), dtype=torch.bool)
        sound[[1, TILE]] = False
        torch.testing.assert_close(found[sound], expected[sound], rtol=0, atol=1e-10)
        assert not found[~sound].isfinite().any()


@EVERY_ENGINE
def test_a_chain_is_differentiable_end_to_end(engine: Engine) -> None:
    parts = [autoregressive(4, (9,), Affine(2.0), "tanh"), Permutation.reverse(4)]
    flow = Flow(4, Chain([*parts, autoregressive(4, (9,), Affine(2.0), "tanh")]), engine)
    u = torch.randn(3, 4, requires_grad=True)
    assert torch.autograd.gradcheck(flow.to_data, (u,), atol=1e-6)


def test_torch_func_sees_through_both_directions() -> None:
    for transform in (autoregressive(3, (6,), Affine(2.0), "tanh"), Inverse(autoregressive(3, (6,), Affine(), "relu"))):
        flow, x = Flow(3, transform), torch.randn(4, 3)
        jacobians = torch.func.vmap(torch.func.jacrev(lambda row, flow=flow: flow.to_noise(row[None])[0][0]))(x)
        torch.testing.assert_close(torch.linalg.slogdet(jacobians).logabsdet, flow.to_noise(x)[1])
        gradients = torch.func.vmap(torch.func.grad(lambda row, flow=flow: flow(row[None])[0]))(x)
        (expected,) = torch.autograd.grad(flow(y := x.clone().requires_grad_()).sum(), y)
        torch.testing.assert_close(gradients, expected)


def test_without_numba_torch_does_all_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("flowbench.engines.numba")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "numba", None)
    assert engines._numba.__wrapped__() is TORCH


def test_kernels_that_cannot_be_compiled_leave_the_work_to_torch_with_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown_processor(self: object) -> None:
        raise RuntimeError("LLVM: unknown target CPU")

    monkeypatch.setattr(numba_engine.NumbaEngine, "try_out", unknown_processor)
    with pytest.warns(UserWarning, match="unknown target CPU"):
        assert engines._numba.__wrapped__() is TORCH


def test_rows_that_no_kernel_takes_go_to_torch() -> None:
    assert choose(torch.zeros(2, 3, dtype=torch.bfloat16)) is TORCH
    assert isinstance(choose(torch.zeros(2, 3)), numba_engine.NumbaEngine)


@pytest.mark.parametrize(("units", "dim"), [(100, 6), (1024, 784), (10, 11), (7, 2)])
def test_hidden_degrees_are_the_papers_where_all_are_reached(units: int, dim: int) -> None:
    paper = sorted(1 + h % (dim - 1) for h in range(units))
    assert hidden_degrees(units, dim).tolist() == paper


@pytest.mark.parametrize(("units", "dim"), [(5, 20), (512, 3072), (1, 3)])
def test_few_hidden_units_still_reach_from_first_to_last_column(units: int, dim: int) -> None:
    degrees = hidden_degrees(units, dim)
    assert degrees[0] == 1
    assert degrees.diff().ge(0).all()
    assert degrees[-1] >= dim - 1 - (dim - 1) // units


@EVERY_ENGINE
def test_masked_weights_stay_zero_under_decay_and_momentum(engine: Engine) -> None:
    built = autoregressive(6, (10, 10), Affine(), "relu")
    assert isinstance(built, MaskedAutoregressive)
    flow, conditioner = Flow(6, built, engine), built.conditioner
    for optimizer in (
        torch.optim.Adam(built.parameters(), weight_decay=0.1),
        AdamInnerEpsilon(conditioner.flat, torch.tensor(1e-2), weight_decay=0.1),
    ):
        for _ in range(3):
            built.zero_grad()
            flow(torch.randn(8, 6)).sum().backward()
            optimizer.step()
    for view in conditioner.packing.views(conditioner.flat):
        assert torch.equal(view.dense() != 0, view.packing.mask() == 1)
