"""Substitution against the textbook's D passes, and its gradients against autograd through them."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor

from flowbench.training.step import AdamInnerEpsilon
from flowbench.transforms import Affine, Chain, MaskedAutoregressive, Permutation, compiled, made
from flowbench.transforms.compiled import small
from flowbench.transforms.compiled.vectors import TILE
from flowbench.transforms.made import hidden_degrees
from flowbench.transforms.network import ActivationName
from flowbench.transforms.substitution import BLOCK

pytestmark = pytest.mark.usefixtures("float64")

SHAPES = pytest.mark.parametrize(
    ("dim", "hidden", "bound", "activation"),
    [
        (1, (4,), None, "relu"),
        (2, (3,), 3.0, "tanh"),
        (6, (10, 11), None, "tanh"),
        (BLOCK, (50, 40), 2.0, "relu"),
        (BLOCK + 1, (20,), 2.0, "relu"),  # fewer units than degrees, and a block of one column
        (3 * BLOCK - 5, (120, 90, 110), 2.0, "relu"),
    ],
)


def transform(
    dim: int, hidden: tuple[int, ...], bound: float | None, activation: ActivationName
) -> MaskedAutoregressive:
    torch.manual_seed(dim)
    built = MaskedAutoregressive(dim, hidden, Affine(bound), activation)
    with torch.no_grad():
        for bias in built.conditioner.unpack(built.conditioner.flat)[1]:
            bias.normal_(std=0.5)
    return built


@pytest.fixture(params=[1, 3], ids=["whole", "stripped"])
def strips(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices in one piece, and in strips as large networks keep them."""
    monkeypatch.setattr(made, "STRIPS", request.param)
    monkeypatch.setattr(made, "STRIPPED", 0)


@pytest.fixture(params=["small", "blocks", "torch"])
def steps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All ways of doing the work; torch's is for other devices, other maps, and users without numba."""
    if request.param == "torch":
        monkeypatch.setattr(compiled, "_load", lambda: None)
        return
    pytest.importorskip("numba")
    if request.param == "blocks":
        monkeypatch.setattr(small, "WORK", -1)


def with_gradients(built: MaskedAutoregressive, invert: object, u: Tensor) -> list[Tensor]:
    u = u.clone().requires_grad_()
    x, log_det = invert(u)  # type: ignore[operator]
    weigh_x, weigh_log_det = torch.linspace(-1, 2, x.numel()).view_as(x), torch.linspace(1, -1, len(x))
    loss = (x * weigh_x).sum() + (log_det * weigh_log_det).sum()
    gradients = torch.autograd.grad(loss, [u, *built.parameters()], materialize_grads=True, allow_unused=True)
    return [x, log_det, *gradients]


@SHAPES
@pytest.mark.parametrize("spread", [1.0, 30.0])
@pytest.mark.usefixtures("steps", "strips")
def test_it_is_the_inverse_by_passes_with_its_gradients(
    dim: int, hidden: tuple[int, ...], bound: float | None, activation: ActivationName, spread: float
) -> None:
    built = transform(dim, hidden, bound, activation)
    u = torch.randn(7, dim) * spread
    for found, expected in zip(
        with_gradients(built, built.inverse, u), with_gradients(built, built.inverse_by_passes, u), strict=True
    ):
        scale = 1 + expected.abs().max().item()
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10 * scale)


@SHAPES
@pytest.mark.parametrize("spread", [1.0, 30.0])
@pytest.mark.usefixtures("steps", "strips")
def test_one_pass_is_what_plain_torch_makes_of_it_with_its_gradients(
    dim: int, hidden: tuple[int, ...], bound: float | None, activation: ActivationName, spread: float
) -> None:
    built = transform(dim, hidden, bound, activation)
    x = torch.randn(7, dim) * spread
    for found, expected in zip(
        with_gradients(built, built, x), with_gradients(built, built.plain_forward, x), strict=True
    ):
        scale = 1 + expected.abs().max().item()
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 * scale)


@SHAPES
@pytest.mark.usefixtures("steps")
def test_float32_agrees_to_rounding(
    dim: int, hidden: tuple[int, ...], bound: float | None, activation: ActivationName
) -> None:
    built = transform(dim, hidden, bound, activation)
    u = torch.randn(7, dim)
    expected = built.inverse_by_passes(u)[0]
    found = built.float().inverse(u.float())[0]
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize("grad", [True, False])
def test_one_row_is_inverted_and_the_weights_stay(grad: bool) -> None:
    built = transform(7, (8, 9), 2.0, "relu")
    before = [parameter.detach().clone() for parameter in built.parameters()]
    u = torch.randn(1, 7)
    with torch.set_grad_enabled(grad):
        for _ in range(2):
            torch.testing.assert_close(built.inverse(u)[0], built.inverse_by_passes(u)[0], rtol=0, atol=1e-12)
    assert all(torch.equal(a, b) for a, b in zip(before, built.parameters(), strict=True))


@pytest.mark.usefixtures("steps")
def test_no_rows_are_no_error() -> None:
    x, log_det = transform(5, (8,), None, "relu").inverse(torch.zeros(0, 5))
    assert x.shape == (0, 5)
    assert log_det.shape == (0,)


def test_rows_beyond_a_tile_and_rows_that_are_not_finite_are_rows_of_their_own() -> None:
    built = transform(9, (12, 13), 2.0, "relu")
    u = torch.randn(3 * TILE + 5, 9)
    expected = built.inverse_by_passes(u)[0]
    u[[1, TILE]] = torch.tensor([[torch.nan], [torch.inf]])
    found = built.inverse(u)[0]
    sound = torch.ones(len(u), dtype=torch.bool)
    sound[[1, TILE]] = False
    torch.testing.assert_close(found[sound], expected[sound], rtol=0, atol=1e-10)
    assert not found[~sound].isfinite().any()


def test_without_numba_there_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    built = transform(5, (8,), 2.0, "relu")
    u = torch.randn(4, 5)
    expected = built.inverse(u)[0]
    for module in [name for name in sys.modules if name.startswith("flowbench.transforms.compiled.")]:
        monkeypatch.delitem(sys.modules, module)
    for module in ("blocks", "normalise", "pointwise", "small"):
        monkeypatch.delattr(compiled, module)
    monkeypatch.setitem(sys.modules, "numba", None)
    compiled._load.cache_clear()
    assert compiled._load() is None
    torch.testing.assert_close(built.inverse(u)[0], expected, rtol=0, atol=1e-10)
    monkeypatch.undo()
    compiled._load.cache_clear()


def test_a_chain_of_them_is_differentiable_end_to_end() -> None:
    chain = Chain([transform(4, (9,), 2.0, "tanh"), Permutation.reverse(4), transform(4, (9,), 2.0, "tanh")])
    u = torch.randn(3, 4, requires_grad=True)
    assert torch.autograd.gradcheck(chain.inverse, (u,), atol=1e-6)


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


def test_masked_weights_stay_zero_under_decay_and_momentum() -> None:
    built = transform(6, (10, 10), None, "relu")
    for optimizer in (
        torch.optim.Adam(built.parameters(), weight_decay=0.1),
        AdamInnerEpsilon(built.conditioner.flat, torch.tensor(1e-2), weight_decay=0.1),
    ):
        for _ in range(3):
            built.zero_grad()
            built(torch.randn(8, 6))[1].sum().backward()
            optimizer.step()
    conditioner = built.conditioner
    for layer, weights in zip(conditioner.layers, conditioner.unpack(conditioner.flat)[0], strict=True):
        assert torch.equal(layer.dense(weights) != 0, layer.mask() == 1)
