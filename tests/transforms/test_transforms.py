"""The transforms that no flow's contract reaches in all their states."""

from __future__ import annotations

import pytest
import torch

from flowbench.timing.yardsticks import peak_bytes
from flowbench.transforms import MADE, Affine, AffineCoupling, BatchNorm, Chain, Inverse, Permutation, compiled

pytestmark = pytest.mark.usefixtures("float64")


def test_a_permutation_of_no_symmetry_is_undone() -> None:
    order = torch.tensor([2, 0, 3, 1])
    permutation = Permutation(order)
    x = torch.randn(5, 4)
    u, log_det = permutation(x)
    assert torch.equal(u, x[:, order])
    assert torch.equal(permutation.inverse(u)[0], x)
    loaded = Permutation.reverse(4)
    loaded.load_state_dict(permutation.state_dict())
    assert torch.equal(loaded.inverse(u)[0], x)
    assert not log_det.any()


def test_batch_norm_in_training_normalises_its_batch_and_counts_it() -> None:
    norm = BatchNorm(3)
    x = torch.randn(50, 3) * 4 + 7
    u, log_det = norm(x)
    torch.testing.assert_close(u.mean(0), torch.zeros(3), rtol=0, atol=1e-12)
    torch.testing.assert_close(u.var(0, correction=0), torch.ones(3), rtol=1e-5, atol=0)
    expected = -0.5 * (x.var(0, correction=0) + BatchNorm.EPSILON).log().sum()
    torch.testing.assert_close(log_det, expected.expand(50))


def test_statistics_of_a_chain_are_those_of_what_arrives() -> None:
    torch.manual_seed(0)
    coupling = AffineCoupling(4, (5,), 0)
    chain = Chain([BatchNorm(4), coupling, BatchNorm(4)]).eval()
    x = torch.randn(300, 4) * 3 + 1
    chain.calibrate(x)
    u, _ = chain(x)
    torch.testing.assert_close(u.mean(0), torch.zeros(4), rtol=0, atol=1e-9)
    torch.testing.assert_close(u.var(0, correction=0), torch.ones(4), rtol=1e-3, atol=0)


def test_a_coupling_leaves_one_half_and_moves_the_other() -> None:
    x = torch.randn(6, 5)
    for parity, passed, moved in ((0, [0, 2, 4], [1, 3]), (1, [1, 3], [0, 2, 4])):
        u, _ = AffineCoupling(5, (7,), parity)(x)
        assert torch.equal(u[:, passed], x[:, passed])
        assert (u[:, moved] != x[:, moved]).all()


@pytest.mark.parametrize("bound", [None, 2.0])
def test_the_affine_map_is_told_mean_and_log_precision(bound: float | None) -> None:
    x, shift, raw = torch.tensor([3.0]), torch.tensor([1.0]), torch.tensor([0.5])
    u, log_derivative = Affine(bound).forward(x, (shift, raw))
    log_precision = raw / 2 if bound is None else bound * torch.tanh(raw / 2 / bound)
    torch.testing.assert_close(u, (x - shift) * log_precision.exp())
    torch.testing.assert_close(log_derivative, log_precision)


def test_a_coupling_is_realnvps_with_the_papers_scale_and_fan_in() -> None:
    coupling = AffineCoupling(6, (4000,), 0)
    x = torch.randn(3, 6)
    scale, translation = coupling.scale.plain(x[:, ::2]), coupling.translation.plain(x[:, ::2])
    u, log_det = coupling(x)
    torch.testing.assert_close(u[:, 1::2], (x[:, 1::2] - translation) * torch.exp(-scale))
    torch.testing.assert_close(log_det, -scale.sum(1))
    for network in (coupling.scale, coupling.translation):
        (first,), (last,) = network.unpack(network.flat)[0]
        assert first.std().item() == pytest.approx(7**-0.5, rel=0.05)  # all D = 6 columns count as fan-in
        assert last.std().item() == pytest.approx(4001**-0.5, rel=0.05)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_without_gradients_a_chain_keeps_nothing_of_its_transforms(direction: str) -> None:
    rows = torch.randn(500, 6)

    def peak(transforms: int) -> int:
        chain = Chain(AffineCoupling(6, (64, 64), k % 2) for k in range(transforms))
        with torch.no_grad():
            return peak_bytes(lambda: getattr(chain, direction)(rows), "cpu")

    assert peak(8) < 1.2 * peak(2)


@pytest.mark.parametrize("bound", [None, 2.0])
@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("kernels", [True, False])
def test_the_gradients_of_a_coupling_are_autograds(
    kernels: bool, direction: str, bound: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kernels:
        monkeypatch.setattr(compiled, "_load", lambda: None)
    coupling = AffineCoupling(5, (7, 6), 0, bound)
    with torch.no_grad():
        for tensor in coupling.tensors():  # biases too
            tensor.normal_(std=0.5)
    rows, weights = torch.randn(4, 5, requires_grad=True), torch.randn(4, 6)
    passed, moved = rows[:, ::2], rows[:, 1::2]
    shift, raw = coupling.translation.plain(passed), -2 * coupling.scale.plain(passed)
    expected, log_derivative = getattr(Affine(bound), direction)(moved, (shift, raw))
    out, log_det = getattr(coupling, direction)(rows)
    torch.testing.assert_close(out[:, 1::2], expected)
    torch.testing.assert_close(log_det, log_derivative.sum(1))
    whole = torch.stack([passed[:, 0], expected[:, 0], passed[:, 1], expected[:, 1], passed[:, 2]], 1)
    inputs = [rows, *coupling.parameters()]
    found = torch.autograd.grad((out * weights[:, :5]).sum() + (log_det * weights[:, 5]).sum(), inputs)
    plain = torch.autograd.grad((whole * weights[:, :5]).sum() + (log_derivative.sum(1) * weights[:, 5]).sum(), inputs)
    for a, b in zip(found, plain, strict=True):
        torch.testing.assert_close(a, b)


def test_a_made_starts_as_the_papers() -> None:
    made = MADE(20, (2000,), Affine())
    for layer, weights, bias in zip(made.layers, *made.unpack(made.flat), strict=True):
        fan_in = layer.shape[1]
        assert layer.dense(weights)[layer.mask() == 1].std().item() == pytest.approx((fan_in + 1) ** -0.5, rel=0.05)
        assert not bias.any()


def test_what_takes_statistics_is_not_inverted() -> None:
    with pytest.raises(ValueError, match="statistics"):
        Inverse(Chain([BatchNorm(3)]))
